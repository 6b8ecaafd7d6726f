//! `[[rule]]`: other limits for some processes, and what follows. In each test the limit of `[thresholds]` is 32 MiB.

use std::time::{Duration, Instant};

use crate::common::{
    TestUser,
    daemon::Daemon,
    log::{SOURCES, config},
};

const TERM: Option<i32> = Some(libc::SIGTERM);

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_rule_has_a_smaller_or_a_larger_limit_or_none_for_the_programs_that_it_names() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = r#"[
            { name = "small", names = ["small-*"], not = { names = ["small-but-not"] }, gb = 0.0146484375 },
            { name = "large", names = ["large"], gb = 0.0625 },
            { name = "free", names = ["free"], none = true },
            { name = "watched", names = ["watched"], action = "warn" },
            { name = "never", names = ["large"], gb = 0.001 },
        ]"#;
        let spared = [
            user.hog("rename small-but-not anon 24M hold"),
            user.hog("anon 24M hold"),
            user.hog("rename large anon 40M hold"),
            user.hog("rename free anon 40M hold"),
            user.hog("rename watched anon 40M hold"),
        ];
        for hog in &spared {
            hog.begun("hold");
        }
        let daemon = Daemon::start(&config(&user, &[("rule", rules)]), &["--source", source]);
        for (script, limit, rule) in [
            ("rename small-7 anon 24M hold", 15 << 20, "small"),
            ("rename large anon 72M hold", 64 << 20, "large"),
        ] {
            let (signal, record) = daemon.terminated(&mut user.hog(script));
            assert_eq!(signal, TERM, "{script}");
            assert_eq!(
                (record["limit_bytes"].as_u64(), record["rule_name"].as_str()),
                (Some(limit), Some(rule))
            );
        }
        let (signal, record) = daemon.terminated(&mut user.hog("anon 40M hold"));
        assert_eq!((signal, record.get("rule_name")), (TERM, None), "the thresholds hold for all others");
        daemon.scanned();
        for hog in &spared {
            assert!(hog.is_alive());
        }
        let [.., watched] = &spared;
        let warned = daemon.about("over_rule", watched.pid());
        assert_eq!(warned.len(), 1, "reported once");
        assert_eq!(warned[0]["rule_name"], "watched");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_rule_waits_before_the_first_signal_and_has_its_own_grace_and_ceiling() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = r#"[
            { name = "patient", names = ["patient"], for = "2s", hard_ceiling = 2.0 },
            { name = "polite", names = ["polite"], grace = 30, hard_ceiling = 0 },
        ]"#;
        let daemon = Daemon::start(&config(&user, &[("rule", rules)]), &["--source", source]);
        let begun = Instant::now();
        let mut patient = user.hog("rename patient anon 40M hold");
        assert_eq!(daemon.terminated(&mut patient).0, TERM);
        assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
        let begun = Instant::now();
        assert_eq!(daemon.terminated(&mut user.hog("rename patient anon 80M hold")).0, TERM);
        assert!(begun.elapsed() < Duration::from_secs(2), "above its ceiling it does not wait");

        // Without the rule's grace, SIGKILL would follow after 0.4 s.
        let polite = user.hog("rename polite ignore-term anon 40M hold");
        daemon.reported("killing", polite.pid());
        std::thread::sleep(Duration::from_secs(1));
        assert!(polite.is_alive());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_first_signal_is_that_of_the_rule_and_every_record_has_it() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = r#"[
            { name = "asked", names = ["asked"], signal = "SIGUSR1" },
            { name = "asked-by-int", names = ["sh-int"], gb = 0.001, signal = "SIGINT", hard_ceiling = 0 },
        ]"#;
        let daemon = Daemon::start(&config(&user, &[("rule", rules)]), &["--source", source]);
        let mut hog = user.hog("rename asked anon 40M hold");
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, Some(libc::SIGUSR1));
        assert_eq!((&record["signal"], &record["cause"]), (&"SIGUSR1".into(), &"term".into()));
        assert_eq!(daemon.about("killing", hog.pid())[0]["signal"], "SIGUSR1");

        // It does not even notice SIGTERM, and exits by its handler.
        let mut saved = user.hog("rename sh-int ignore-term exit-on-int anon 20M hold");
        let (signal, record) = daemon.terminated(&mut saved);
        assert_eq!((signal, &record["signal"]), (None, &"SIGINT".into()));
        let mut other = user.hog("anon 40M hold");
        assert_eq!(daemon.terminated(&mut other).0, TERM);

        let dry_run = config(&user, &[("rule", rules)]);
        daemon.stop();
        let mut stubborn = user.hog("rename sh-int ignore-int anon 20M hold");
        let daemon = Daemon::start(&dry_run, &["--source", source, "--dry-run"]);
        daemon.reported("killing", stubborn.pid());
        let would = &daemon.about("killing", stubborn.pid())[0];
        assert_eq!((&would["signal"], &would["dry_run"]), (&"SIGINT".into(), &true.into()));
        daemon.stop();
        assert!(stubborn.is_alive());
        let daemon = Daemon::start(&dry_run, &["--source", source]);
        let (signal, record) = daemon.terminated(&mut stubborn);
        assert_eq!((signal, &record["signal"]), (Some(libc::SIGKILL), &"SIGINT".into()));
        assert_eq!(daemon.about("grace_over", stubborn.pid())[0]["first_signal"], "SIGINT");
        daemon.stop();
    }
}
