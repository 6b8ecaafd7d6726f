//! One Rust file as tidy reads it: by tokens, so that comments and strings do not count as code, but macros do.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

use super::tokens::{Token as _, is_separator};

/// The parts of a file that tidy checks, each with its line.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// `name` of each path that starts at the crate's root: `crate::name`, or enough times `super::`.
    pub(super) from_root: Vec<(usize, String)>,
    /// `name` of each path that starts with a name: `name::…`, `use name`; a crate, a module or a type.
    pub(super) libraries: Vec<(usize, String)>,
    /// First and second name of each such path.
    pairs: Vec<(usize, String, String)>,
    /// `#[allow(…)]` without a reason, by itself or in a `cfg_attr`.
    pub(super) bare_allows: Vec<usize>,
    /// The keyword `unsafe`.
    pub(super) unsafes: Vec<usize>,
}

/// The reason why a file could not be read.
#[derive(Debug)]
pub(super) struct NotRust {
    pub(super) line: usize,
    pub(super) what: String,
}

impl Source {
    /// Reads `text`, the file at `path` in the checkout.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, NotRust> {
        let tokens: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| NotRust {
            line: error.span().start().line,
            what: error.to_string(),
        })?;
        let mut source = Self::default();
        source.walk(tokens, depth(path));
        Ok(source)
    }

    /// `name` of each `library::name`.
    pub(super) fn of_library(&self, library: &str) -> impl Iterator<Item = (usize, String)> {
        let pairs = self.pairs.iter().filter(move |(_, first, _)| first == library);
        pairs.map(|(line, _, second)| (*line, second.clone()))
    }

    /// Reads the tokens of a module `depth` levels below the crate's root.
    fn walk(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index] {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    let bang = usize::from(punct(tokens.get(index + 1)) == Some('!'));
                    if let Some(TokenTree::Group(attribute)) = tokens.get(index + 1 + bang)
                        && attribute.delimiter() == Delimiter::Bracket
                    {
                        self.attribute(attribute.stream());
                    }
                }
                TokenTree::Ident(ident) => {
                    if ident == "unsafe" {
                        self.unsafes.push(line(ident));
                    }
                    let inline = (ident == "mod").then(|| tokens.get(index + 2)).flatten();
                    if let Some(TokenTree::Group(body)) = inline {
                        self.walk(body.stream(), depth + 1);
                        index += 2;
                    } else if !continues_a_path(&tokens, index) {
                        self.path(&tokens, index, depth);
                    }
                }
                TokenTree::Group(group) => self.walk(group.stream(), depth),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            index += 1;
        }
    }

    /// Reads the path that starts at `index`.
    fn path(&mut self, tokens: &[TokenTree], mut index: usize, depth: usize) {
        let is_use = index > 0 && tokens[index - 1].is_word("use");
        let mut supers = 0;
        while tokens.get(index).is_some_and(|token| token.is_word("super")) && is_separator(tokens, index + 1)
        {
            supers += 1;
            index += 3;
        }
        if supers > 0 {
            // Each `super` leads one level up; only as many as there are levels lead to the root.
            if supers == depth {
                self.from_root.extend(names(tokens.get(index)));
            }
            return;
        }
        let Some(TokenTree::Ident(first)) = tokens.get(index) else { return };
        let rest = if is_separator(tokens, index + 1) { names(tokens.get(index + 3)) } else { Vec::new() };
        if first == "crate" {
            self.from_root.extend(rest);
        } else if is_use || !rest.is_empty() {
            self.libraries.push((line(first), first.to_string()));
            self.pairs.extend(rest.into_iter().map(|(line, second)| (line, first.to_string(), second)));
        }
    }

    /// Reads what is within `#[…]`, or one of the attributes within `#[cfg_attr(…)]`.
    fn attribute(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for pair in tokens.windows(2) {
            let [TokenTree::Ident(name), TokenTree::Group(body)] = pair else { continue };
            let says_why = || body.stream().into_iter().any(|token| token.is_word("reason"));
            if name == "cfg_attr" {
                self.attribute(body.stream());
            } else if name == "allow" && !says_why() {
                self.bare_allows.push(line(name));
            }
        }
    }
}

/// The number of modules between the crate's root and the file at `path`: 1 for src/policy.rs and src/policy/mod.rs.
fn depth(path: &str) -> usize {
    let Some((_, below)) = path.split_once("src/") else { return 0 };
    let module = below.trim_end_matches(".rs");
    match module {
        "lib" | "main" => 0,
        _ => module.trim_end_matches("/mod").split('/').count(),
    }
}

/// The names that a path goes on with: one, or the first of each branch of `{…}`.
fn names(token: Option<&TokenTree>) -> Vec<(usize, String)> {
    match token {
        Some(TokenTree::Ident(name)) => vec![(line(name), name.to_string())],
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
            let branches = tokens.split(|token| punct(Some(token)) == Some(','));
            branches.flat_map(|branch| names(branch.first())).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the name at `index` follows a `::`, or a `.` of a field or method.
fn continues_a_path(tokens: &[TokenTree], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| punct(tokens.get(before)));
    before == Some('.')
        || (index >= 3
            && is_separator(tokens, index - 2)
            && !matches!(tokens[index - 3], TokenTree::Punct(_)))
}

fn punct(token: Option<&TokenTree>) -> Option<char> {
    match token {
        Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
        _ => None,
    }
}

fn line(ident: &Ident) -> usize {
    ident.span().start().line
}
