//! README.md is a manual as well: the commands of memmon that it shows exist.

/// The lines of its blocks of shell, without comments.
fn commands() -> impl Iterator<Item = &'static str> {
    let blocks = include_str!("../../../README.md").split("```sh\n").skip(1);
    let lines = blocks.filter_map(|block| block.split("```").next()).flat_map(str::lines);
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

#[test]
fn every_command_of_memmon_is_one() {
    let mut seen = 0;
    for line in commands() {
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        let Some(("memmon", rest)) = line.split_once(' ') else { continue };
        seen += 1;
        // Brackets hold optional parts: parse the command once without them, and once with all of them and the first choice.
        let with = rest.replace(['[', ']'], "");
        let mut without = String::new();
        let mut depth = 0;
        for letter in rest.chars() {
            match letter {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ if depth == 0 => without.push(letter),
                _ => {}
            }
        }
        for words in [with, without] {
            let words = words.split_whitespace().map(|word| word.split('|').next().unwrap_or(word));
            let words: Vec<_> = std::iter::once("memmon").chain(words).collect();
            if let Err(error) = memmon::cli::command().try_get_matches_from(&words) {
                panic!("{line}: {error}");
            }
        }
    }
    assert!(seen > 3, "README.md shows only {seen} commands of memmon");
}
