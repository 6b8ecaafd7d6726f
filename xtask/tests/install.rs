//! `cargo xtask install` and `uninstall`, run as commands on a throw-away copy of this machine (machine/).

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod machine;

use machine::on_a_machine;

/// The position of `what` in `printed`.
fn at(printed: &str, what: &str) -> usize {
    printed.find(what).unwrap_or_else(|| panic!("no {what:?} in:\n{printed}"))
}

#[test]
#[ignore = "needs root and mounts"]
fn without_a_terminal_it_starts_in_dry_run_and_an_uninstallation_leaves_nothing() {
    let printed = on_a_machine(
        "tree >before
         xtask install --no-build
         ! test -e machine/etc/memmon/enabled
         grep ExecStart= machine/usr/local/lib/systemd/system/memmon.service
         test -x machine/usr/local/sbin/memmon
         cmp machine/etc/memmon/config.toml $CHECKOUT/config.toml
         for file in lib/systemd/system/memmon.service lib/systemd/catalog/memmon.catalog \
             share/man/man8/memmon.8 share/man/man5/memmon.toml.5 share/bash-completion/completions/memmon \
             share/zsh/site-functions/_memmon share/fish/vendor_completions.d/memmon.fish; do
             test -s machine/usr/local/$file
         done
         test -s machine/etc/logrotate.d/memmon
         xtask uninstall --purge
         tree >after; diff before after; asked",
    );
    at(&printed, "memmon runs in dry run: there is no terminal to ask whether it may enforce (--yes agrees)");
    at(&printed, "ExecStart=/usr/local/sbin/memmon run --dry-run-until-enabled\n");
    let asked = &printed[at(&printed, "\nsystemctl daemon-reload\n")..];
    assert_eq!(
        asked.trim(),
        "systemctl daemon-reload\njournalctl --update-catalog\nsystemctl enable memmon.service\n\
         systemctl restart memmon.service\nsystemctl disable --now memmon.service\nsystemctl daemon-reload\n\
         journalctl --update-catalog"
    );
}

#[test]
#[ignore = "needs root and mounts"]
fn the_user_sees_the_processes_over_the_limit_before_the_question() {
    for (answer, expected, enabled) in [
        ("y", "memmon watches and enforces", "yes"),
        ("n", "memmon runs in dry run: you did not agree that it enforces", "no"),
        ("", "memmon runs in dry run: you did not agree that it enforces", "no"),
    ] {
        let printed = on_a_machine(&format!(
            "at_terminal '{answer}\\n' install --no-build
             test -e {ENABLED} && echo enabled yes || echo enabled no
             asked"
        ));
        let shown = at(&printed, "Over the limit of 2.00GB now: as /etc/memmon/config.toml has it");
        let question = at(&printed, "Let memmon terminate these? [y/N]");
        assert!(shown < question, "{printed}");
        assert!(question < at(&printed, expected), "{printed}");
        assert!(question < at(&printed, "systemctl restart memmon.service"), "{printed}");
        at(&printed, &format!("enabled {enabled}"));
    }
}

const ENABLED: &str = "machine/etc/memmon/enabled";

/// Enforcing goes on after consent, also without a terminal to ask at; not beside v1, and not after an uninstall.
#[test]
#[ignore = "needs root and mounts"]
fn another_installation_keeps_the_choices() {
    let printed = on_a_machine(&format!(
        "xtask install --no-build --yes
         mkdir -p machine/etc/systemd/system/memmon.service.d
         echo earlier >machine/etc/systemd/system/memmon.service.d/dry-run.conf
         echo == again
         xtask install --no-build
         test -e {ENABLED}
         ! test -e machine/etc/systemd/system/memmon.service.d
         echo memory-monitor.service >machine/tmp/active
         echo == beside v1
         xtask install --no-build
         ! test -e {ENABLED}"
    ));
    let (again, beside) = (at(&printed, "== again"), at(&printed, "== beside v1"));
    assert!(printed[again..beside].contains("memmon watches and enforces"), "{printed}");
    at(&printed[beside..], "memmon runs in dry run: v1's service is still in force");
}

#[test]
#[ignore = "needs root and mounts"]
fn yes_enforces_and_shows_all_the_same_and_no_start_starts_nothing() {
    let printed = on_a_machine(&format!("xtask install --no-build --yes; test -e {ENABLED}; asked"));
    assert!(at(&printed, "Over the limit") < at(&printed, "memmon watches and enforces"), "{printed}");
    at(&printed, "systemctl enable memmon.service\nsystemctl restart memmon.service");

    let printed = on_a_machine(
        "tree >before
         xtask install --no-build --yes --no-start
         xtask uninstall
         tree >after; diff before after; asked",
    );
    at(&printed, "memmon was not started: as you asked");
    assert!(!printed.contains("restart"), "{printed}");
}

#[test]
#[ignore = "needs root and mounts"]
fn a_directory_is_installed_into_without_a_word_to_systemd() {
    let printed = on_a_machine(
        "tree >before
         mkdir machine/tmp/destination
         xtask install --no-build --destdir /tmp/destination --prefix /usr
         (cd machine/tmp/destination && find . -type f | sort)
         tree >after; diff before after; asked",
    );
    for file in ["./usr/sbin/memmon", "./usr/lib/systemd/system/memmon.service", "./etc/memmon/config.toml"] {
        at(&printed, file);
    }
    assert!(!printed.contains("systemctl"), "{printed}");
}

#[test]
#[ignore = "needs root and mounts"]
fn with_a_wrong_configuration_nothing_is_installed() {
    let printed = on_a_machine(
        "mkdir machine/etc/memmon; echo wrong >machine/etc/memmon/config.toml
         tree >before
         ! xtask install --no-build --yes 2>&1
         tree >after; diff before after; asked",
    );
    at(&printed, "/etc/memmon/config.toml:1:1: wrong");
    at(&printed, "error: nothing was installed");
    assert!(!printed.contains("systemctl"), "{printed}");
}

/// The files that v1's installer makes.
const V1: &str = "mkdir -p machine/opt/memory-monitor machine/etc/logrotate.d
     printf '[thresholds]\\nram_gb_threshold = 7.5\\n' >machine/opt/memory-monitor/config.toml
     echo '[Service]' >machine/etc/systemd/system/memory-monitor.service
     echo '/var/log/memory_monitor.log {}' >machine/etc/logrotate.d/memory-monitor
     for state in enabled active; do echo memory-monitor.service >machine/tmp/$state; done\n";

#[test]
#[ignore = "needs root and mounts"]
fn v1_is_found_taken_over_and_retired_after_a_question() {
    let printed = on_a_machine(&format!(
        "{V1} at_terminal 'y\\ny\\n' install --no-build
         cmp machine/opt/memory-monitor/config.toml machine/etc/memmon/config.toml; asked"
    ));
    let found = at(&printed, "v1's service is in force here: memory-monitor.service");
    let question = at(&printed, "Disable memory-monitor.service, which memmon replaces? [y/N]");
    assert!(
        found < question && question < at(&printed, "systemctl disable --now memory-monitor.service"),
        "{printed}"
    );
    at(&printed, "v1's /opt/memory-monitor/config.toml is taken over as /etc/memmon/config.toml");
    at(&printed, "v1's files are left in /opt/memory-monitor");
    at(&printed, "memmon watches and enforces");

    // An installation in which both enforce is never offered.
    let printed = on_a_machine(&format!("{V1} at_terminal 'n\\n' install --no-build; asked"));
    at(&printed, "memmon runs in dry run: v1's service is still in force");
    assert!(!printed.contains("disable --now memory-monitor"), "{printed}");
}

/// Disabling keeps the unit file.
#[test]
#[ignore = "needs root and mounts"]
fn v1_once_retired_is_not_asked_about_again() {
    let printed = on_a_machine(&format!(
        "{V1} xtask install --no-build --yes
         test -e machine/etc/systemd/system/memory-monitor.service
         echo == again
         at_terminal 'y\\n' install --no-build
         test -e {ENABLED}
         test -e machine/etc/logrotate.d/memmon"
    ));
    let again = &printed[at(&printed, "== again")..];
    assert!(!again.contains("v1"), "{again}");
    at(again, "memmon watches and enforces");
}

#[test]
#[ignore = "needs root and mounts"]
fn v1_is_found_by_both_of_its_names_and_by_what_runs() {
    // Installed by hand as v1's README.md describes, and started without being enabled.
    let printed = on_a_machine(
        "echo memory_monitor.service >machine/tmp/active
         xtask install --no-build --yes; asked",
    );
    at(&printed, "v1's service is in force here: memory_monitor.service");
    at(&printed, "systemctl disable --now memory_monitor.service");
    at(&printed, "memmon watches and enforces");
}
