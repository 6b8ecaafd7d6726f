//! Events as objects for programs: one per line, every figure in base units with the unit in its key.

use std::io::{self, Write};

use jiff::Zoned;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::event::{Event, Level};
use crate::model::Escaped;

/// The content of a line: time and level, the event with its typed fields, then the text of the text format.
#[derive(Serialize)]
struct Object<'a> {
    time: String,
    level: Level,
    #[serde(flatten)]
    event: &'a Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    message: &'a str,
}

/// `event` as one JSON object without the line feed, the time as RFC 3339 with offset and microseconds.
pub(super) fn line(at: &Zoned, event: &Event, user: Option<&str>, message: &str) -> String {
    let time = at.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string();
    let mut buffer = Vec::with_capacity(512);
    let object = Object { time, level: event.level(), event, user, message };
    match object.serialize(&mut Serializer::with_formatter(&mut buffer, Visible)) {
        Ok(()) => String::from_utf8_lossy(&buffer).into_owned(),
        // No event does that today (a map with keys that are no text would); the line must not be lost over it.
        Err(error) => serde_json::json!({ "message": message, "fault": error.to_string() }).to_string(),
    }
}

/// JSON that a terminal may be shown: what serde_json lets through and [`Escaped`] does not (DEL, C1 controls,
/// characters that turn text) becomes `\uXXXX`, which any parser turns back.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut clean = 0;
        for (at, character) in fragment.char_indices() {
            if is_visible(character) {
                continue;
            }
            CompactFormatter.write_string_fragment(writer, &fragment[clean..at])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            clean = at + character.len_utf8();
        }
        CompactFormatter.write_string_fragment(writer, &fragment[clean..])
    }
}

fn is_visible(character: char) -> bool {
    let mut buffer = [0; 4];
    let text: &str = character.encode_utf8(&mut buffer);
    matches!(character, ' '..='~') || Escaped(text.as_bytes()).to_string() == text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::{Timestamp, tz::TimeZone};
    use serde_json::Value;

    use super::*;
    use crate::{
        model::Name,
        report::{event::Subject, samples, text},
    };

    fn written(event: &Event) -> String {
        let at: Timestamp = "2025-10-03T08:15:30.123456789Z".parse().unwrap();
        let at = at.to_zoned(TimeZone::fixed(jiff::tz::offset(2)));
        let user = event.subject().map(|subject| samples::user(subject.uid));
        line(&at, event, user.as_deref(), &text::message(event, &mut samples::user))
    }

    #[test]
    fn every_event_as_an_object() {
        let reported: Vec<_> = samples::samples().iter().map(written).collect();
        for line in &reported {
            let object: Value = serde_json::from_str(line).unwrap();
            for key in ["time", "level", "event", "message"] {
                assert!(object[key].is_string(), "{key} in {line}");
                assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key} once in {line}");
            }
        }
        let mut kinds = BTreeSet::new();
        let is_first =
            |line: &&String| kinds.insert(serde_json::from_str::<Value>(line).unwrap()["event"].to_string());
        let one_of_each: Vec<_> = reported.iter().filter(is_first).map(String::as_str).collect();
        // The time of the samples' exemption is a local one.
        let local = crate::model::UnixTime(7200).to_string();
        let one_of_each = one_of_each.join("\n").replace(&local, "1970-01-01 02:00:00");
        insta::assert_snapshot!(one_of_each, @r#"
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"started","version":"2.0.0","config":"/etc/memmon/config.toml","source":"ebpf","reason":"BTF and CAP_BPF are there","dry_run":false,"awaits_enable":false,"limit_bytes":2147483648,"interval_seconds":30.0,"message":"memmon 2.0.0 started. Limit: 2.00GB per process, Interval: 30s, Source: ebpf (BTF and CAP_BPF are there), Config: /etc/memmon/config.toml"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"degraded","what":"no process_mrelease before Linux 5.15, memory is freed at exit","message":"Degraded: no process_mrelease before Linux 5.15, memory is freed at exit"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"config_warning","what":"line 4: root is listed but not protected, as in v1: set protect_root = true to protect it","message":"Warning about the configuration: line 4: root is listed but not protected, as in v1: set protect_root = true to protect it"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"system_memory","total_bytes":17179869184,"available_bytes":9406219714,"message":"System Memory: 45.2% used (7.24GB / 16.00GB)"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"killing","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rule":"gb","limit_bytes":2147483648,"rss_bytes":3758096384,"percent":21.875,"signal":"SIGTERM","dry_run":false,"user":"john","message":"Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"sum_over","rule_name":"students","per":"user","uid":1000,"total_bytes":3221225472,"limit_bytes":2147483648,"members":20,"then":"terminate","protected_bytes":2684354560,"largest":[{"pid":7,"comm":"cc1plus","bytes":734003200}],"message":"Over the limit together: user john, 20 processes, RAM=3.00GB, Limit=2.00GB, Rule=students. As few of them as it takes are terminated. The largest: 7 cc1plus 0.68GB"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"throttled","rule_name":"students","per":"unit","unit":"build.service","total_bytes":3221225472,"limit_bytes":2147483648,"members":3,"throttled_cgroup":"/system.slice/build.service","high_bytes":2147483648,"before_bytes":null,"times":1,"dry_run":false,"message":"Slowing down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students, Cgroup=/system.slice/build.service, memory.high=2.00GB, before max"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"not_throttled","rule_name":"students","per":"unit","unit":"build.service","total_bytes":3221225472,"limit_bytes":2147483648,"members":3,"why":"outsider","outsider_pid":812,"message":"Not slowed down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students: pid 812 is in the cgroup and does not count in the sum, so that it would be slowed down as well"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"throttle_ended","rule_name":"students","per":"unit","unit":"build.service","throttled_cgroup":"/system.slice/build.service","high_bytes":null,"why":"calm","message":"Slowed down no longer: unit build.service, Rule=students, Cgroup=/system.slice/build.service, memory.high=max again: it has stayed well below the limit"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"approaching","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rss_bytes":3758096384,"limit_bytes":4294967296,"action":"terminate","growth_bytes_per_second":104857600.0,"time_to_limit_seconds":5.12,"user":"john","message":"Near its limit: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=4.00GB, Growth=100.0MB/s, Time to limit=5.12s"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"oom_killed","pid":12345,"comm":"chrome","peak_bytes":4294967296,"message":"Killed by the kernel's OOM killer: PID=12345, Name=chrome, Peak=4.00GB. The machine or its cgroup was out of memory. Lower limits would let memmon act earlier"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"grace_over","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rss_bytes":4294967296,"first_signal":"SIGTERM","grace_seconds":5.0,"urgency":null,"user":"john","message":"Still running 5s after SIGTERM, sending SIGKILL: PID=12345, Name=chrome, User=john, RAM=4.00GB"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"held_back","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","script":"/srv/app.py","unit":"app.service","times":5,"wait_seconds":60.0,"first":true,"rule_name":"students","user":"john","message":"Repeat offender, termination delayed by up to 60s unless memory runs short: PID=12345, Name=chrome, User=john, Script=/srv/app.py, Unit=app.service, Rule=students, Terminated 5 times. Stop or fix the service that restarts it"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"uncharged","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rss_bytes":4294967296,"limit_bytes":2147483648,"charged_bytes":14680064,"page_cache_bytes":58720256,"kept_bytes":3221225472,"largest":{"name":"/dev/zero","bytes":3221225472,"why":{"elder":{"pid":77}}},"user":"john","message":"Over the limit by RSS only, left alone: PID=12345, Name=chrome, User=john, RAM=4.00GB, Limit=2.00GB. Its end would give back 14.0MB; page cache stays (56.0MB), and so does shared memory (3.00GB, of it 3.00GB in \"/dev/zero\": pid 77 maps it as well)"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"terminated","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rule":"gb","limit_bytes":2147483648,"rss_bytes":3758096384,"percent":21.875,"signal":"SIGTERM","rss_at_crossing_bytes":null,"crossing_to_signal_seconds":null,"rss_at_term_bytes":3758096384,"rss_at_kill_bytes":null,"peak_bytes":4294967296,"overshoot_bytes":1610612736,"signal_to_exit_seconds":0.420123,"cause":"term","signal_to_memory_seconds":0.420123,"urgency":null,"reclaimed":false,"rss_after_reclaim_bytes":null,"exit":null,"user":"john","message":"Terminated: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1.50GB, gone 420ms after SIGTERM"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"spared","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rss_bytes":1073741824,"limit_bytes":2147483648,"after_term":true,"signal":"SIGTERM","user":"john","message":"Spared, its memory fell below the limit: PID=12345, Name=chrome, User=john, RAM=1.00GB, Limit=2.00GB. SIGTERM was already sent; no SIGKILL will follow"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"let_go","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","after_term":true,"signal":"SIGTERM","user":"john","message":"Termination cancelled, dry run is now enabled: PID=12345, Name=chrome, User=john. SIGTERM was already sent; no SIGKILL will follow"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"now_protected","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","protection":{"rule":"init"},"user":"john","message":"Protected, no further signal: PID=12345, Name=chrome, User=john, by being PID 1"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"unsure","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","doubt":{"name_unreadable":"argv0"},"user":"john","message":"No signal, in doubt: PID=12345, Name=chrome, User=john. Its argv[0] cannot be read, so whitelist.names cannot be checked; the process is busy, or waits in the kernel, for example for a file server"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"over_rule","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rule":"gb","limit_bytes":2147483648,"rss_bytes":3758096384,"percent":21.875,"rule_name":"browsers","user":"john","message":"Over its limit, only a warning: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB, Rule=browsers"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"stopped","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rule":"gb","limit_bytes":2147483648,"rss_bytes":3758096384,"percent":21.875,"rule_name":"browsers","times":1,"already":false,"dry_run":false,"user":"john","message":"Stopping process: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB, Rule=browsers. To continue it: kill -CONT 12345"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"continued","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rss_bytes":3758096384,"limit_bytes":2147483648,"may_have_bytes":4294967296,"user":"john","message":"Continued by somebody else: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB. It is stopped again with more than 4.00GB"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"over_but_protected","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","rss_bytes":4294967296,"limit_bytes":2147483648,"protection":{"rule":"root"},"user":"john","message":"Over its limit, but protected: PID=12345, Name=chrome, User=john, RAM=4.00GB, Limit=2.00GB, by whitelist.protect_root"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"exempted","id":3,"uid":1000,"until_unix_seconds":7200,"by":0,"why":"the year's report, \"ticket 7\"","message":"Exempt from now on: User=john, until 1970-01-01 02:00:00, by 0, because \"the year's report, \\\"ticket 7\\\"\" (exemption 3)"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"exemption_ended","id":3,"uid":1000,"until_unix_seconds":7200,"by":0,"why":"the year's report, \"ticket 7\"","end":{"ended_by":1000},"message":"Exemption 3 ended by john: User=john"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"dry_run_day","day":"2025-10-06","times":4,"stops":0,"throttles":0,"programs":[{"comm":"chrome","uid":1000,"times":3,"largest_bytes":4294967296}],"message":"Dry run on 2025-10-06: 4 would have been terminated: chrome (john) 3, up to 4.00GB; others 1"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"doubt_ended","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","doubt":{"name_unreadable":"argv0"},"lasted_seconds":1.5,"user":"john","message":"Doubt ended after 1.5s, judged by what is known: PID=12345, Name=chrome, User=john. Its argv[0] cannot be read, so whitelist.names cannot be checked; the process is busy, or waits in the kernel, for example for a file server"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"DEBUG","event":"unconfirmed","pid":12345,"why":{"cause":"gone"},"message":"No signal to PID=12345: it is gone, or hidden from memmon"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"ERROR","event":"out_of_reach","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","error":"EMFILE: Too many open files","user":"john","message":"Cannot open the process, so no signal is sent yet: PID=12345, Name=chrome, User=john: EMFILE: Too many open files"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"ERROR","event":"signal_failed","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","signal":"SIGTERM","error":"EPERM: Operation not permitted","user":"john","message":"Cannot send SIGTERM: PID=12345, Name=chrome, User=john: EPERM: Operation not permitted"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"ERROR","event":"lingers","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","since_seconds":10.0,"state":"D","wchan":"rpc_wait_bit_killable","frozen_cgroup":null,"rss_bytes":null,"user":"john","message":"Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, State=D, Waits in=rpc_wait_bit_killable. It waits uninterruptibly inside the kernel: check its disk or network file system"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"disagreement","pid":12345,"start":987654,"map_bytes":3221225472,"exact_bytes":3222274048,"error_bytes":65536,"message":"Kernel map and /proc disagree: PID=12345, Map=3221225472B, Proc=3222274048B, Expected error=64KB. /proc decides"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"map_defect","missed":2,"stale":1,"message":"Repaired inconsistent kernel map (a memmon bug, please report). Processes missing: 2, Stale entries: 1"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"scan_complete","scanned":245,"killed":1,"message":"Scan complete. Scanned: 245, Killed: 1"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"scheduled","limit_bytes":1073741824,"interval_seconds":15.0,"message":"Schedule: from now on Limit: 1.00GB per process, Interval: 15s"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"reloaded","config":"/etc/memmon/config.toml","fragments":["/etc/memmon/conf.d/10-\\u{1b}.toml"],"dry_run":false,"message":"Configuration reloaded: /etc/memmon/config.toml with conf.d/10-\\u{1b}.toml"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"ERROR","event":"reload_failed","error":"/etc/memmon/config.toml:3:1: unknown key \"ram_gb_treshold\"\n  did you mean ram_gb_threshold?\n","message":"Configuration not reloaded, the old one stays in force: /etc/memmon/config.toml:3:1: unknown key \"ram_gb_treshold\" / did you mean ram_gb_threshold?"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"sink_trouble","sink":"file","error":"/var/log/memmon.log: No space left on device (os error 28)","lost":1,"message":"Cannot write to the log file: /var/log/memmon.log: No space left on device (os error 28). Lost so far: 1"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"overflow","lost":99,"message":"The log could not keep up. Lost: 99"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"repeated","times":41,"text":"Degraded: the map is full","message":"Repeated 41 times: Degraded: the map is full"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"left_out","uid":1000,"times":312,"text":"Terminated: PID=7, Name=x, User=john","message":"Left out 312 more lines like this of the last minute, User=john: Terminated: PID=7, Name=x, User=john"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"ERROR","event":"diagnostic","origin":"aya_log","text":"a BPF word","message":"aya_log: a BPF word"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"memory_low","total_bytes":17179869184,"available_bytes":536870912,"swap_total_bytes":8589934592,"swap_free_bytes":536870912,"elsewhere":{"shmem_bytes":1073741824,"slab_bytes":536870912,"hugetlb_bytes":0},"pressure":{"some":40.0,"full":21.5},"reasons":"available,swap_free,pressure_some,pressure_full","acts":false,"message":"Machine low on memory: 0.50GB of 16.00GB available. Available memory 0.50GB is below 0.80GB, free swap 6.2% is below 10%, processes wait for memory 40.0% of the time, 30% is the level, all processes wait for memory 21.5% of the time, 20% is the level"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"culprit","pid":12345,"start":987654,"comm":"chrome","uid":1000,"exe":"/opt/google/chrome/chrome","cgroup":"/user.slice/user-1000.slice/session-2.scope","workload":{"unit":"session-2.scope"},"command_line":"/opt/google/chrome/chrome --type=renderer \"a\", b","parent_pid":4321,"parent_comm":"bash","session":4000,"tty":"pts/3","started":"1970-01-01T00:00:00+00:00","group":"unit","unit":"session-2.scope","group_growth_bytes":9663676416,"processes":10,"gives_back_bytes":2147483648,"growth_bytes":1073741824,"growth_seconds":34.0,"reasons":"available,swap_free","dry_run":false,"user":"john","message":"Machine short of memory, ending the culprit: PID=12345, Name=chrome, User=john, Gives back=2.00GB, Growth=1.00GB in 34s, one of 10 processes of unit session-2.scope that grew by 9.00GB. Available memory 0.50GB is below 0.80GB, free swap 6.2% is below 10%"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"WARNING","event":"no_culprit","lost_bytes":9663676416,"grown_bytes":1073741824,"growth_seconds":34.0,"elsewhere":{"shmem_bytes":8589934592,"slab_bytes":3145728,"hugetlb_bytes":0},"file_systems":[{"path":"/dev/shm","used_bytes":8589934592}],"writers":[{"pid":4711,"comm":"dd","uid":1000,"path":"/dev/shm","used_bytes":7516192768}],"message":"Machine short of memory, and no process is ended, because none that may be ended caused it: 9.00GB less available than 34s ago. Growth since: processes 1.00GB, tmpfs and shared memory 8.00GB, kernel 3.0MB, huge pages 0B. Files in memory: /dev/shm 8.00GB. PID=4711, Name=dd, User=john has written 7.00GB to a file in /dev/shm"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"memory_back","total_bytes":17179869184,"available_bytes":536870912,"lasted_seconds":0.9,"message":"Machine has enough memory again after 900ms: 0.50GB of 16.00GB available"}
        {"time":"2025-10-03T10:15:30.123456+02:00","level":"INFO","event":"stopping","reason":"SIGTERM","message":"memmon stops: SIGTERM"}
        "#);
    }

    #[test]
    fn hostile_text_stays_inside_its_string_and_comes_back_whole() {
        let error = "a\"b\\c\n\u{1b}\u{7f}\u{9b}\u{202e}é\u{1F600}";
        let line = written(&Event::ReloadFailed { error: error.to_owned() });
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line}");
        assert!(line.contains(r"\u007f\u009b\u202eé😀"), "{line}");
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["error"], error);

        let subject = Subject { name: Name::new(*b"\xff\n\",\"pid\":1"), ..samples::chrome() };
        let line = written(&Event::Killing {
            subject,
            breach: samples::BREACH,
            signal: crate::model::Signal::Term,
            dry_run: true,
            sum: None,
        });
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["comm"], r#"\xff\n","pid":1"#, "escaped as everywhere");
        assert_eq!(object["pid"], 12345);
    }

    #[test]
    fn a_path_need_not_be_text() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let config = Some(OsStr::from_bytes(b"/etc/\xff.toml").into());
        let fragments = vec![OsStr::from_bytes(b"/etc/\xfe.toml").into()];
        let object: Value =
            serde_json::from_str(&written(&Event::Reloaded { config, fragments, dry_run: false })).unwrap();
        assert_eq!(object["config"], r"/etc/\xff.toml");
        assert_eq!(object["fragments"], serde_json::json!([r"/etc/\xfe.toml"]));
    }
}
