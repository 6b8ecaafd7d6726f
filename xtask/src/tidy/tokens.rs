//! Tests of Rust's tokens.

use proc_macro2::{Delimiter, TokenTree};

/// The kind of a token.
pub(super) trait Token {
    /// Whether it is the name or keyword `word`.
    fn is_word(&self, word: &str) -> bool;
    /// Whether it is the mark `mark`.
    fn is_punct(&self, mark: char) -> bool;
    /// Whether it is a group between such delimiters.
    fn is_group(&self, delimiter: Delimiter) -> bool;
}

impl Token for TokenTree {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Ident(ident) if ident == word)
    }

    fn is_punct(&self, mark: char) -> bool {
        matches!(self, Self::Punct(punct) if punct.as_char() == mark)
    }

    fn is_group(&self, delimiter: Delimiter) -> bool {
        matches!(self, Self::Group(group) if group.delimiter() == delimiter)
    }
}

/// Whether `::` stands at `index`.
pub(super) fn is_separator(tokens: &[TokenTree], index: usize) -> bool {
    let is_colon = |at| tokens.get(at).is_some_and(|token: &TokenTree| token.is_punct(':'));
    is_colon(index) && is_colon(index + 1)
}
