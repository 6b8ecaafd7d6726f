//! One Rust file as tidy reads it: by tokens, so that comments and strings do not count as code, but macros do.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// A module path below the crate's root.
pub(super) type Module = Vec<String>;

/// The parts of a file that tidy checks.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The module of the file.
    file: Module,
    /// Modules in files of their own, without tests.
    pub(super) modules: BTreeSet<String>,
    /// The path from the crate's root of each name that a `use` brings in, without those of tests.
    pub(super) names: BTreeMap<String, Module>,
    /// Paths in `use` and in code.
    pub(super) paths: Vec<Path>,
    /// The lines with the keyword `unsafe`.
    pub(super) unsafes: Vec<usize>,
}

/// A path, or one that a `use` with braces stands for.
#[derive(Debug)]
pub(super) struct Path {
    /// The line of its first name.
    pub(super) line: usize,
    /// Its names as they are written.
    pub(super) words: Vec<String>,
    /// The same from the crate's root; none if it is of another crate or a local name.
    pub(super) target: Option<Module>,
    /// Whether it stands for all of a module (`*`).
    pub(super) all: bool,
    /// Whether it is behind `#[cfg(test)]`.
    pub(super) is_test: bool,
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
        let file = module(path);
        let mut source = Self { file: file.clone(), ..Self::default() };
        source.walk(tokens, &file, false);
        Ok(source)
    }

    /// Reads the tokens of `module`, which is that of the file or one within it.
    fn walk(&mut self, tokens: TokenStream, module: &Module, is_test: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let (mut index, mut end_of_test) = (0, 0);
        while let Some(token) = tokens.get(index) {
            if is_cfg_test(&tokens, index) {
                end_of_test = end_of_item(&tokens, index + 2) + 1;
            }
            let is_test = is_test || index < end_of_test;
            match token {
                TokenTree::Group(group) => self.walk(group.stream(), module, is_test),
                TokenTree::Ident(word) if word == "unsafe" => self.unsafes.push(line(word)),
                TokenTree::Ident(_) if continues(&tokens, index) => {}
                TokenTree::Ident(word) if word == "use" => {
                    let semicolon = (index..tokens.len()).find(|at| is_punct(tokens.get(*at), ';'));
                    let end = semicolon.unwrap_or(tokens.len());
                    self.use_tree(&tokens[index + 1..end], &[], module, is_test);
                    index = end;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    let name = tokens.get(index + 1).map(ToString::to_string).unwrap_or_default();
                    if let Some(TokenTree::Group(body)) = tokens.get(index + 2) {
                        self.walk(body.stream(), &below(module, [name]), is_test);
                        index += 2;
                    } else if !is_test && *module == self.file && is_punct(tokens.get(index + 2), ';') {
                        self.modules.insert(name);
                    }
                }
                TokenTree::Ident(word) => {
                    let mut words = vec![word.clone()];
                    while is_separator(&tokens, index + 1)
                        && let Some(TokenTree::Ident(next)) = tokens.get(index + 3)
                    {
                        words.push(next.clone());
                        index += 3;
                    }
                    if words.len() > 1 {
                        self.add(&words, false, module, is_test);
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            index += 1;
        }
    }

    /// Reads a `use` behind the names `before`.
    fn use_tree(&mut self, tokens: &[TokenTree], before: &[Ident], module: &Module, is_test: bool) {
        let (mut words, mut alias, mut all) = (before.to_vec(), None, false);
        let mut tokens = tokens.iter();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inner.split(|token| is_punct(Some(token), ',')) {
                        if !branch.is_empty() {
                            self.use_tree(branch, &words, module, is_test);
                        }
                    }
                    return;
                }
                TokenTree::Punct(mark) => all |= mark.as_char() == '*',
                TokenTree::Ident(word) if word == "as" => alias = tokens.next().map(ToString::to_string),
                TokenTree::Ident(word) if word == "self" && !words.is_empty() => {}
                TokenTree::Ident(word) => words.push(word.clone()),
                TokenTree::Literal(_) => {}
            }
        }
        let target = self.add(&words, all, module, is_test).filter(|_| !all && !is_test);
        let name = alias.or_else(|| words.last().map(ToString::to_string)).filter(|name| name != "_");
        if let (Some(target), Some(name)) = (target, name) {
            // A name for itself would lead nowhere.
            if target != below(module, [name.clone()]) {
                self.names.insert(name, target);
            }
        }
    }

    /// Adds a path in `module`, and returns it from the crate's root.
    fn add(&mut self, words: &[Ident], all: bool, module: &Module, is_test: bool) -> Option<Module> {
        let first = words.iter().find(|word| !["crate", "self", "super"].iter().any(|root| word == root));
        let line = line(first.or(words.first())?);
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let target = self.absolute(&words, module);
        self.paths.push(Path { line, words, target: target.clone(), all, is_test });
        target
    }

    fn absolute(&self, words: &[String], module: &[String]) -> Option<Module> {
        let (first, rest) = words.split_first()?;
        let start = match first.as_str() {
            "crate" => Module::new(),
            "self" => module.to_vec(),
            "super" => {
                let (_, above) = module.split_last()?;
                return match rest.first() {
                    Some(next) if next == "super" => self.absolute(rest, above),
                    _ => Some(below(above, rest.to_vec())),
                };
            }
            name => match self.names.get(name) {
                Some(known) => known.clone(),
                None if self.modules.contains(name) => below(module, [name.to_owned()]),
                None => return None,
            },
        };
        Some(below(&start, rest.to_vec()))
    }
}

impl Path {
    /// Whether it starts at the crate's root or at its own module.
    pub(super) fn is_of_crate(&self) -> bool {
        self.words.first().is_some_and(|word| ["crate", "self", "super"].contains(&word.as_str()))
    }
}

/// The module of the file at `path`: `policy` for src/policy.rs and src/policy/mod.rs.
fn module(path: &str) -> Module {
    let below = path.split_once("src/").map_or("", |(_, below)| below).trim_end_matches(".rs");
    match below {
        "" | "lib" | "main" => Module::new(),
        _ => below.trim_end_matches("/mod").split('/').map(str::to_owned).collect(),
    }
}

fn below(module: &[String], names: impl IntoIterator<Item = String>) -> Module {
    module.iter().cloned().chain(names).collect()
}

/// Whether the name at `index` goes on after a `::` or `.`.
fn continues(tokens: &[TokenTree], index: usize) -> bool {
    (index >= 1 && is_punct(tokens.get(index - 1), '.')) || (index >= 2 && is_separator(tokens, index - 2))
}

/// Whether `#[cfg(test)]` stands at `index`.
fn is_cfg_test(tokens: &[TokenTree], index: usize) -> bool {
    is_punct(tokens.get(index), '#')
        && tokens.get(index + 1).is_some_and(|group| group.to_string().replace(' ', "") == "[cfg(test)]")
}

/// The index of the last token of the item that begins at `index`.
fn end_of_item(tokens: &[TokenTree], index: usize) -> usize {
    let is_use = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "use");
    let is_use = tokens.iter().skip(index).take(4).any(is_use);
    let is_body =
        |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    let ends = |at: &usize| is_punct(tokens.get(*at), ';') || (!is_use && is_body(&tokens[*at]));
    (index..tokens.len()).find(ends).unwrap_or(tokens.len())
}

/// Whether `::` stands at `index`.
fn is_separator(tokens: &[TokenTree], index: usize) -> bool {
    is_punct(tokens.get(index), ':') && is_punct(tokens.get(index + 1), ':')
}

fn is_punct(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

fn line(word: &Ident) -> usize {
    word.span().start().line
}
