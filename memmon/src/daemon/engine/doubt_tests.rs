//! Doubts on a captured /proc: which of them end. Dry runs only.

use std::time::Duration;

use super::tests::{Recorder, engine_with};
use crate::daemon::clock::Now;
use crate::observe::procfs::testing::Tree;

/// Its name may be one that protects it. Only a read that hangs is its owner's doing.
#[test]
fn a_name_that_the_machine_cannot_read_leaves_a_doubt_that_does_not_end() {
    for (file, fails_at) in [("cmdline", true), ("exe", true), ("cgroup", true), ("cmdline", false)] {
        let (tree, recorder, now) = (Tree::new(), Recorder::default(), Now::read());
        tree.write("meminfo", "MemTotal:  16777216 kB\nMemFree:  1 kB\nMemAvailable:  9437184 kB\n");
        // Reads that hang are known by their process.
        tree.cat(4_000_077);
        let text = "thresholds = { ram_gb_threshold = 0.001, measure = 'rss' }
                    settings.dry_run = true
                    whitelist = { pids = [], names = ['precious'], users = [], cgroups = ['/precious'] }";
        let mut engine = engine_with(text, &tree, &recorder, now);
        let of_its = tree.path().join(format!("4000077/{file}"));
        std::fs::remove_file(&of_its).unwrap();
        if fails_at {
            std::fs::create_dir(&of_its).unwrap();
        } else {
            nix::unistd::mkfifo(&of_its, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        engine.scan(now);
        assert_eq!(recorder.about_processes(), ["in doubt about cat"], "{file}");
        for tenth in 1..100 {
            engine.recheck_next(now.later(Duration::from_millis(100 * tenth)));
        }
        let reported = recorder.about_processes();
        let ends = reported.iter().any(|event| event == "would terminate cat");
        assert_eq!(ends, !fails_at, "{file}: {reported:?}");
        if !fails_at {
            std::fs::write(&of_its, "later\0").unwrap();
        }
    }
}
