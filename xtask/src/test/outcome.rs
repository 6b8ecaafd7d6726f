//! The outcome of a run of tests, read from the output of libtest.

/// One run of `cargo test`, over all its binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: Vec<Ignored>,
}

/// A test that did not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ignored {
    pub(super) name: String,
    /// Empty if `#[ignore]` has no reason.
    pub(super) reason: String,
}

impl Outcome {
    /// Reads one line.
    ///
    /// Passed and failed tests are taken from each binary's `test result:` line, which a test's own output cannot
    /// tear apart.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                let words: Vec<&str> = result.split([' ', ';']).collect();
                words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse::<u64>().ok())
            };
            self.passed += count("passed").unwrap_or(0);
            self.failed += count("failed").unwrap_or(0);
        } else if let Some((name, reason)) =
            line.strip_prefix("test ").and_then(|test| test.split_once(" ... ignored"))
        {
            let name = name.trim_end_matches(" - should panic").to_owned();
            self.ignored.push(Ignored { name, reason: reason.trim_start_matches(", ").to_owned() });
        }
    }
}

/// The names of the functions in `text`, Rust, whose `#[ignore = "…"]` begins with `reason`.
pub(super) fn marked<'a>(text: &'a str, reason: &str) -> impl Iterator<Item = &'a str> {
    let mark = format!("#[ignore = \"{reason}");
    let mut is_marked = false;
    text.lines().filter_map(move |line| {
        is_marked |= line.trim_start().starts_with(&mark);
        let (_, function) = line.split_once("fn ").filter(|_| is_marked)?;
        is_marked = false;
        function.split('(').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_from_its_lines() {
        let mut outcome = Outcome::default();
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/memmon-0123456789abcdef)",
            "running 4 tests",
            "test policy::tests::either_limit ... ok",
            "test policy::tests::wrong ... FAILED",
            "test observe::bpf::tests::attaches ... ignored, kernel: needs root and kernel BTF",
            "test slow - should panic ... ignored",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "   Doc-tests memmon",
            "test memmon/src/lib.rs - (line 5) ... ok",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s",
            "a test result: ok. 99 passed; 99 failed",
        ] {
            outcome.read(line);
        }
        let ignored = |name: &str, reason: &str| Ignored { name: name.to_owned(), reason: reason.to_owned() };
        let expected = Outcome {
            passed: 13,
            failed: 1,
            ignored: vec![
                ignored("observe::bpf::tests::attaches", "kernel: needs root and kernel BTF"),
                ignored("slow", ""),
            ],
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn marked_functions_are_found_in_sources() {
        // Taken apart, so that this file has none.
        let mark = ["#[ign", "ore = \"kernel: needs root\"]"].concat();
        let other = ["#[ign", "ore = \"slow\"]"].concat();
        let text = format!(
            "#[test]\n{mark}\nfn one() {{}}\n    {mark}\n    fn two() -> X {{}}\n{other}\nfn three() {{}}"
        );
        assert_eq!(marked(&text, "kernel:").collect::<Vec<_>>(), ["one", "two"]);
    }
}
