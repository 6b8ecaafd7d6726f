//! What follows if a process is over the limit of a rule: what is read, and what is refused.

use super::tests::error;

#[test]
fn a_signal_that_makes_no_sense_as_the_first_one_is_refused_with_the_reason() {
    let refused = |signal: &str| error(&format!("[[rule]]\nname = 'a'\nnames = ['x']\nsignal = '{signal}'"));
    insta::assert_snapshot!(refused("SIGKILL"), @r#"
    error: SIGKILL cannot be the first signal
     --> config.toml:4:10
      |
    4 | signal = 'SIGKILL'
      |          ^^^^^^^^^ SIGKILL is the last signal and never the first; with grace = 0 it follows at once; expected one of: "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU"
    "#);
    for (signal, why) in [
        ("SIGSTOP", "a stopped process keeps its memory"),
        ("SIGCONT", "without a handler it does nothing"),
        ("SIGSEGV", "write all its memory to the disk"),
        ("TERM", "expected one of: \"SIGTERM\""),
        ("SIGALRM", "expected one of: \"SIGTERM\", \"SIGINT\""),
        ("15", "expected one of"),
    ] {
        let error = refused(signal);
        assert!(error.contains(why), "{signal}: {error}");
    }
}
