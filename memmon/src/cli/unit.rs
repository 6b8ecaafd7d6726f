//! Settings that memmon's unit does not allow: memmon(8), SYSTEMD, as warnings of `memmon check`, before the service is
//! started with it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    config::{Concern, Settings, Warning},
    model::{Escaped, Listen, Uid},
    observe::procfs::ProcRoot,
};

/// The properties of the unit that are looked at.
const PROPERTIES: &str = "LoadState,PrivateNetwork,IPAddressAllow,IPAddressDeny,RestrictAddressFamilies,ReadWritePaths,ProtectSystem,ProtectControlGroups,ProtectHome,PrivateTmp,\
                          Group,SupplementaryGroups,CapabilityBoundingSet,SystemCallFilter,RestrictRealtime,LimitRTPRIO";

/// Asks systemd for the unit as it is, drop-ins included. Without systemd, or such a unit, nothing is needed.
pub(super) fn warnings(settings: &Settings) -> Vec<Warning> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Vec::new();
    }
    let shown = Command::new("systemctl").args(["show", "memmon.service", "--property", PROPERTIES]).output();
    let shown = shown.map(|shown| String::from_utf8_lossy(&shown.stdout).into_owned()).unwrap_or_default();
    missing(settings, ProcRoot::real().is_ok_and(|proc| proc.is_fdinfo_private()), &shown)
}

/// The settings that the unit which is `shown` does not allow.
fn missing(settings: &Settings, is_fdinfo_private: bool, shown: &str) -> Vec<Warning> {
    let unit = Unit(shown.lines().filter_map(|line| line.split_once('=')).collect());
    if !unit.is("LoadState", "loaded") {
        return Vec::new();
    }
    let mut needs = needs(settings, is_fdinfo_private);
    for need in &mut needs {
        need.directives.retain(|directive| !unit.has(directive));
    }
    needs.retain(|need| !need.directives.is_empty());
    needs
        .into_iter()
        .map(|Need { key, directives }| {
            let directives: Vec<_> =
                directives.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let why = format!(
                "memmon.service does not allow it: `systemctl edit memmon`, and under [Service] {}",
                directives.join(", ")
            );
            Warning::general(Concern::Unusable { key, why })
        })
        .collect()
}

/// A key, and the lines of a drop-in that it needs.
struct Need {
    key: &'static str,
    directives: Vec<(&'static str, String)>,
}

fn needs(settings: &Settings, is_fdinfo_private: bool) -> Vec<Need> {
    let notify = &settings.notify;
    let mut needs = Vec::new();
    let mut need = |key, directives: &[(&'static str, &str)]| {
        let directives = directives.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        needs.push(Need { key, directives });
    };
    let network = |allowed| {
        [
            ("PrivateNetwork", "no"),
            ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
            ("IPAddressAllow", allowed),
        ]
    };
    if let Some(mail) = &notify.mail {
        let is_here = mail.host == "localhost" || mail.host.starts_with("127.") || mail.host == "::1";
        need("notify.mail_to", &network(if is_here { "localhost" } else { "ADDRESSES-OF-THE-RELAY" }));
    }
    if matches!(settings.metrics.listen, Some(Listen::Loopback(_))) {
        need("metrics.listen", &network("localhost"));
    }
    if notify.hook.as_ref().is_some_and(|hook| hook.user.is_some_and(|user| user != Uid::ROOT)) {
        need(
            "notify.hook",
            &[("CapabilityBoundingSet", "CAP_SETUID CAP_SETGID"), ("SystemCallFilter", "@setuid")],
        );
    }
    if notify.terminal {
        need("notify.terminal", &[("SupplementaryGroups", "tty")]);
    }
    if settings.throttles() {
        need("rule.action", &[("ProtectControlGroups", "no"), ("ReadWritePaths", "/sys/fs/cgroup")]);
    }
    if is_fdinfo_private && settings.machine.is_some_and(|machine| machine.stop_writers) {
        need("machine.stop_writers", &[("CapabilityBoundingSet", "CAP_DAC_READ_SEARCH")]);
    }
    if settings.kernel.realtime {
        let directives =
            [("RestrictRealtime", "no"), ("LimitRTPRIO", "1"), ("SystemCallFilter", "sched_setattr")];
        need("kernel.realtime", &directives);
    }
    if let Some(group) = &settings.status.group {
        need("status.group", &[("Group", group)]);
    }
    let auth_file = notify.mail.as_ref().and_then(|mail| mail.auth_file.as_deref());
    let files = [
        ("settings.log_file", settings.log.file.as_deref(), true),
        ("metrics.textfile", settings.metrics.textfile.as_deref(), true),
        ("notify.hook", notify.hook.as_ref().map(|hook| hook.command.as_path()), false),
        ("notify.smtp_auth_file", auth_file, false),
    ];
    for (key, path, is_written) in
        files.into_iter().filter_map(|(key, path, is_written)| Some((key, path?, is_written)))
    {
        let mut directives = Vec::new();
        if ["/home", "/root", "/run/user"].iter().any(|folder| path.starts_with(folder)) {
            directives.push(("ProtectHome", if is_written { "no" } else { "read-only" }.to_owned()));
        }
        if ["/tmp", "/var/tmp"].iter().any(|folder| path.starts_with(folder)) {
            directives.push(("PrivateTmp", "no".to_owned()));
        }
        if is_written && let Some(folder) = path.parent() {
            directives.push(("ReadWritePaths", Escaped(folder.as_os_str().as_encoded_bytes()).to_string()));
        }
        if is_closed_to_root(path, is_written) {
            let capability = if is_written { "CAP_DAC_OVERRIDE" } else { "CAP_DAC_READ_SEARCH" };
            directives.push(("CapabilityBoundingSet", capability.to_owned()));
        }
        needs.push(Need { key, directives });
    }
    needs
}

/// Whether root needs a capability to read the file at `path`, or to write it: it, or a folder on the way, belongs to another user.
/// A path that cannot be looked at is reported elsewhere.
fn is_closed_to_root(path: &Path, is_written: bool) -> bool {
    const READ: u32 = 0o4;
    const WRITE: u32 = 0o2;
    const ENTER: u32 = 0o1;
    let lacks = |path: &Path, what: u32| {
        fs::metadata(path).is_ok_and(|facts| {
            let class = match (facts.uid(), facts.gid()) {
                (0, _) => 6,
                (_, 0) => 3,
                _ => 0,
            };
            (facts.mode() >> class) & what == 0
        })
    };
    lacks(path, if is_written { WRITE } else { READ })
        || is_written && path.parent().is_some_and(|folder| lacks(folder, WRITE))
        || path.ancestors().skip(1).any(|folder| lacks(folder, ENTER))
}

/// Properties as `systemctl show` prints them.
struct Unit<'a>(BTreeMap<&'a str, &'a str>);

impl Unit<'_> {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    fn lists(&self, name: &str, word: &str) -> bool {
        self.get(name).split_whitespace().any(|listed| listed.eq_ignore_ascii_case(word))
    }

    /// Whether the unit allows what this line of a drop-in would.
    fn has(&self, (name, value): &(&str, String)) -> bool {
        let value = value.as_str();
        // A list that is empty restricts nothing.
        let is_open = self.get(name).is_empty();
        match *name {
            "IPAddressAllow" => self.get("IPAddressDeny").is_empty() || !is_open,
            // CAP_SYS_NICE has no limit.
            "LimitRTPRIO" => self.get(name) != "0" || self.lists("CapabilityBoundingSet", "CAP_SYS_NICE"),
            "SupplementaryGroups" => self.lists(name, value),
            "RestrictAddressFamilies" => is_open || self.lists(name, "AF_INET"),
            "CapabilityBoundingSet" => value.split(' ').all(|capability| self.lists(name, capability)),
            "SystemCallFilter" => {
                let call = if value == "@setuid" { "setresuid" } else { value };
                is_open || self.lists(name, call)
            }
            "ReadWritePaths" => {
                let written: Vec<PathBuf> = self
                    .get(name)
                    .split_whitespace()
                    .map(|path| path.trim_start_matches(['-', '+']).into())
                    .chain(["/run/memmon".into()])
                    .collect();
                !self.is("ProtectSystem", "strict")
                    || written.iter().any(|path| Path::new(value).starts_with(path))
            }
            "ProtectHome" => self.is(name, "no") || self.is(name, value),
            _ => self.is(name, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;
    use crate::config::{self, FakeUsers};

    const USERS: FakeUsers = FakeUsers(&[("root", 0), ("alice", 1000)]);

    /// The unit as it is shipped, shortened where it is long.
    const SHIPPED: &str = "Group=\nCapabilityBoundingSet=cap_kill cap_sys_ptrace cap_perfmon cap_bpf\nPrivateTmp=yes\n\
        PrivateNetwork=yes\nIPAddressAllow=\nIPAddressDeny=::/0 0.0.0.0/0\nProtectHome=yes\nProtectSystem=strict\nProtectControlGroups=yes\nReadWritePaths=/var/log -/sys/fs/bpf\n\
        SystemCallFilter=accept bpf bind process_mrelease read sched_setattr\nRestrictRealtime=no\nLimitRTPRIO=1\nRestrictAddressFamilies=AF_UNIX\n\
        LoadState=loaded\n";

    fn reported(text: &str, shown: &str) -> String {
        reported_on(false, text, shown)
    }

    fn reported_on(is_before_5_14: bool, text: &str, shown: &str) -> String {
        let settings = config::parse(text, Path::new("c"), &USERS).unwrap().settings;
        missing(&settings, is_before_5_14, shown).iter().map(|warning| format!("{warning}\n")).collect()
    }

    const ALL: &str = "
        settings.log_file = '/srv/log/memmon.log'
        metrics = { listen = '127.0.0.1:9819', textfile = '/home/alice/x.prom' }
        status.group = 'alice'
        notify = { mail_to = ['a@b'], smtp_auth_file = '/tmp/auth', hook = '/home/bob/hook', hook_user = 'alice' }";

    #[test]
    fn settings_that_the_unit_does_not_allow_are_reported_with_the_lines_that_do() {
        insta::assert_snapshot!(reported(ALL, SHIPPED), @"
        notify.mail_to cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] PrivateNetwork=no, RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6, IPAddressAllow=localhost
        metrics.listen cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] PrivateNetwork=no, RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6, IPAddressAllow=localhost
        notify.hook cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] CapabilityBoundingSet=CAP_SETUID CAP_SETGID, SystemCallFilter=@setuid
        status.group cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] Group=alice
        settings.log_file cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] ReadWritePaths=/srv/log
        metrics.textfile cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] ProtectHome=no, ReadWritePaths=/home/alice
        notify.hook cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] ProtectHome=read-only
        notify.smtp_auth_file cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] PrivateTmp=no
        ");
    }

    #[test]
    fn a_rule_that_throttles_needs_a_unit_that_may_write_to_cgroups() {
        let rule =
            "rule = [{ name = 'a', units = ['x.service'], per = 'unit', gb = 1, action = 'throttle' }]";
        insta::assert_snapshot!(reported(rule, SHIPPED), @"rule.action cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] ProtectControlGroups=no, ReadWritePaths=/sys/fs/cgroup");
        let open = SHIPPED.replace("ProtectControlGroups=yes", "ProtectControlGroups=no");
        let open = open.replace("ReadWritePaths=", "ReadWritePaths=/sys/fs/cgroup ");
        assert_eq!(reported(rule, &open), "");
    }

    #[test]
    fn writers_of_files_in_memory_are_found_with_another_capability_before_5_14() {
        let writers = "machine = { stop_writers = true }";
        insta::assert_snapshot!(reported_on(true, writers, SHIPPED), @"machine.stop_writers cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] CapabilityBoundingSet=CAP_DAC_READ_SEARCH");
        let with = SHIPPED.replace("cap_bpf", "cap_bpf cap_dac_read_search");
        let on = |is_before_5_14, text: &str, shown: &str| reported_on(is_before_5_14, text, shown);
        assert_eq!([on(true, writers, &with), on(false, writers, SHIPPED), on(true, "", SHIPPED)], [""; 3]);
    }

    #[test]
    fn a_file_in_a_folder_of_another_user_needs_a_capability() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        let text = format!("metrics.textfile = '{at}/x.prom'");
        let open =
            SHIPPED.replace("PrivateTmp=yes", "PrivateTmp=no").replace("/var/log", &format!("/var/log {at}"));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(reported(&text, &open), "");
            chown(folder.path(), Some(47_000), Some(47_000)).unwrap();
        }
        let found = reported(&text, &open);
        assert!(found.ends_with("under [Service] CapabilityBoundingSet=CAP_DAC_OVERRIDE\n"), "{found}");
        let with = open.replace("cap_bpf", "cap_bpf cap_dac_override");
        assert_eq!(reported(&text, &with), "");
        let auth = folder.path().join("auth");
        fs::write(&auth, "").unwrap();
        fs::set_permissions(&auth, fs::Permissions::from_mode(0o600)).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&auth, Some(47_000), None).unwrap();
        }
        let text = format!("notify = {{ mail_to = ['a@b'], smtp_auth_file = '{at}/auth' }}");
        let found = reported(&text, &open);
        assert!(found.contains("notify.smtp_auth_file cannot be used"), "{found}");
        assert!(found.ends_with("under [Service] CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n"), "{found}");
        assert!(!is_closed_to_root(Path::new("/dev/null"), true), "everybody may write to it");
    }

    #[test]
    fn a_drop_in_or_no_unit_at_all_ends_it() {
        assert_eq!(reported("", SHIPPED), "", "the defaults need no drop-in");
        let earlier =
            SHIPPED.replace("RestrictRealtime=no\nLimitRTPRIO=1", "RestrictRealtime=yes\nLimitRTPRIO=0");
        insta::assert_snapshot!(reported("", &earlier), @"kernel.realtime cannot be used: memmon.service does not allow it: `systemctl edit memmon`, and under [Service] RestrictRealtime=no, LimitRTPRIO=1");
        let by_capability =
            SHIPPED.replace("LimitRTPRIO=1", "LimitRTPRIO=0").replace("cap_bpf", "cap_bpf cap_sys_nice");
        assert_eq!(reported("", &by_capability), "");
        assert_eq!(reported(ALL, ""), "");
        assert_eq!(reported(ALL, &SHIPPED.replace("=loaded", "=not-found")), "");
        let open = "LoadState=loaded\nGroup=alice\nPrivateTmp=no\nPrivateNetwork=no\nProtectHome=no\nRestrictRealtime=no\n\
            ProtectSystem=strict\nReadWritePaths=/var/log /srv/log /home/alice\n\
            CapabilityBoundingSet=cap_setuid cap_setgid cap_sys_nice\nSystemCallFilter=setresuid sched_setattr\n\
            RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\nIPAddressDeny=::/0 0.0.0.0/0\nIPAddressAllow=127.0.0.0/8\n";
        assert_eq!(reported(ALL, open), "");
    }
}
