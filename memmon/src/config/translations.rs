//! docs/translations.md: each of its blocks is a configuration, and each intent is in its table and in its block.

use std::{collections::BTreeSet, path::Path};

use super::{Concern, FakeUsers, parse_files, read::Read};

const PAGE: &str = include_str!("../../../docs/translations.md");

const USERS: FakeUsers = FakeUsers(&[("root", 0), ("staff", 50), ("backup", 34), ("nobody", 65_534)]);

/// The numbers of intents in `text`: a letter and digits, each a word of its own.
fn numbers(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    words
        .filter(|word| word.starts_with(['E', 'N', 'A', 'M', 'S']))
        .filter(|word| word.len() > 1 && word[1..].bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

#[test]
fn every_block_is_a_configuration_without_likely_mistakes() {
    let blocks: Vec<_> =
        PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        let files = [Read::new("config.toml".into(), block.into())];
        let names = |_: &Path| Ok((b"rustc\n".to_vec(), None));
        let loaded = parse_files(&files, &USERS, &names).unwrap_or_else(|error| panic!("{error}"));
        for warning in loaded.warnings {
            // Each list is an excerpt: an administrator's own has more.
            assert!(matches!(warning.concern, Concern::NamesFellAway { .. }), "{warning}\n{block}");
        }
    }
}

#[test]
fn the_table_has_56_intents_and_those_that_are_expressed_are_in_the_block_below() {
    let (mut all, mut expressed) = (BTreeSet::new(), BTreeSet::new());
    for section in PAGE.split("\n## ").skip(1) {
        let block = section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let comments: String =
            block.lines().filter_map(|line| line.split_once('#')).map(|(_, comment)| comment).collect();
        let shown = numbers(&comments);
        for row in section.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<_> = row.split(" | ").collect();
            let number = cells[0].trim_start_matches("| ");
            if !numbers(number).contains(number) {
                continue;
            }
            assert!(all.insert(number), "{number} twice");
            if cells[2].starts_with("no: ") {
                assert!(!shown.contains(number), "{number} is not expressed, and in the block");
            } else {
                assert!(shown.contains(number), "{number} is not in the block");
                expressed.insert(number);
            }
        }
        assert!(shown.is_subset(&all), "{shown:?}");
    }
    assert_eq!((all.len(), expressed.len()), (56, 47));
    assert!(PAGE.contains("Of 56 intents memmon expresses 47. The other nine"));
}
