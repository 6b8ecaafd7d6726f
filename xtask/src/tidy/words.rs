//! The words that CONTRIBUTING.md retires, because they make a sentence hard to understand.

/// Words in lower case; other forms of a word are listed separately.
const WORDS: &[&str] = &[
    "whom", "anew", "mend", "mends", "mended", "evermore", "condemn", "condemns", "condemned", "climber",
    "climbers", "rung", "rungs", "tell", "tells", "told", "hear", "hears", "heard", "telling", "hearing",
];

/// Phrases, in lower case.
const PHRASES: &[&str] = &["cannot be had"];

/// Words that begin no sentence: the subject is the process, memmon, the user or the kernel.
const BEGINNINGS: &[&str] = &["Who", "Whose", "Whoever", "What"];

/// Words that begin no line of a doc comment: it begins with a verb or a noun phrase.
const DOC_BEGINNINGS: &[&str] = &["How", "Which", "Why"];

/// Licences, and this list itself.
const EXEMPT: &[&str] =
    &["LICENSE-", "memmon-ebpf/LICENSE", "xtask/packaging/deb/copyright", "xtask/src/tidy/words.rs"];

/// The retired words and phrases in a line of the file at `path`, as they are written in the lists.
pub(super) fn retired(path: &str, line: &str) -> Vec<&'static str> {
    let shows_bad_examples = path == "CONTRIBUTING.md" && line.starts_with('|');
    if shows_bad_examples || EXEMPT.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    let lower = line.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect::<Vec<_>>();
    let word = WORDS.iter().filter(|retired| words.contains(retired));
    let phrase = PHRASES.iter().filter(|retired| has_phrase(&words, retired));
    let beginning = BEGINNINGS.iter().filter(|retired| begins_a_sentence(line, retired));
    let doc = line.trim_start().strip_prefix("/// ").unwrap_or_default();
    let first = doc.split([' ', '.', ',']).next().filter(|_| !doc.contains('?'));
    let doc_beginning = DOC_BEGINNINGS.iter().filter(|retired| first == Some(**retired));
    word.chain(phrase).chain(beginning).chain(doc_beginning).copied().collect()
}

fn has_phrase(words: &[&str], phrase: &str) -> bool {
    let phrase: Vec<_> = phrase.split(' ').collect();
    words.windows(phrase.len()).any(|window| window == phrase)
}

/// Whether `word` begins a sentence: it is first in a line or a comment, or follows a full stop. A question may begin with
/// it.
fn begins_a_sentence(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (line[..start].trim_end(), &line[start + word.len()..]);
        let is_word = after.starts_with([' ', '.'])
            && !line[..start].ends_with(|letter: char| letter.is_alphanumeric());
        let is_first = before.is_empty() || before.ends_with(['.', ':', '/', '!', '#']);
        is_word && is_first && !after.contains('?')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_words_are_found_as_words_only() {
        for (line, expected) in [
            ("/// Whose socket it is.", &["Whose"][..]),
            ("memmon ends it. Who shrinks in time is spared.", &["Who"]),
            ("// Spare whom the kernel spares", &["whom"]),
            ("if BPF cannot be had, it polls", &["cannot be had"]),
            ("The user is Told", &["told"]),
            ("    /// How often.", &["How"]),
            ("// How often", &[]),
            ("## How it works", &[]),
            ("Mended anew", &["anew", "mended"]),
            ("/// What a process must be like.", &["What"]),
            ("Who is over the limit?", &[]),
            ("// What now?", &[]),
            ("    /// Who.", &["Who"]),
            ("amend, recommended, WHOIS, mend_it", &[]),
            ("a user who reads this", &[]),
        ] {
            assert_eq!(retired("README.md", line), expected, "{line}");
        }
    }

    #[test]
    fn bad_examples_and_the_texts_of_others_are_exempt() {
        assert_eq!(retired("CONTRIBUTING.md", "| Who shrinks | A process |"), [""; 0]);
        assert_eq!(retired("CONTRIBUTING.md", "Whose it is."), ["Whose"]);
        assert_eq!(retired("LICENSE-MIT", "persons to whom the Software"), [""; 0]);
        assert_eq!(retired("xtask/packaging/deb/copyright", "persons to whom the Software"), [""; 0]);
    }
}
