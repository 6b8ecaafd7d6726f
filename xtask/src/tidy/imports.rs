//! The imports between files, from the module tree of a crate and the paths that its production code names.
//!
//! A path leads to the file that defines its item, also through a `use` in a `mod.rs`. A `use` of a module alone is not an
//! import yet; the use of an item of that module is.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::tokens::{self, Token as _};

/// A module path below the crate's root.
type Module = Vec<String>;

/// The edges `importer → imported`, by paths in the checkout.
pub(super) type Edges = BTreeSet<(String, String)>;

/// The imports between the files of each crate in `files` (path and text).
pub(super) fn edges(files: &[(String, String)]) -> Edges {
    let mut crates: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        if let Some((folder, below)) = path.split_once("/src/") {
            crates.entry(folder).or_default().push((below, text));
        }
    }
    let mut edges = Edges::new();
    for (folder, files) in crates {
        for root in ["lib.rs", "main.rs"] {
            let tree = Tree::read(root, &files);
            for (from, to) in tree.edges() {
                edges.insert((format!("{folder}/src/{from}"), format!("{folder}/src/{to}")));
            }
        }
    }
    edges
}

/// The files of a crate by their modules.
#[derive(Default)]
struct Tree<'a> {
    files: BTreeMap<Module, File<'a>>,
}

/// The imports in one file.
#[derive(Default)]
struct File<'a> {
    path: &'a str,
    /// Modules in files of their own, without tests.
    modules: BTreeSet<String>,
    /// The path of each name that a `use` brings in, as it is written.
    names: BTreeMap<String, Module>,
    /// Paths in `use` and in code, as they are written. The flag marks all of a module (`*`).
    paths: Vec<(Module, bool)>,
}

/// The target of a path.
enum Target<'a> {
    Item(&'a str),
    Module(&'a str),
}

impl<'a> Tree<'a> {
    /// Reads the files from `root` along the `mod` lines.
    fn read(root: &str, files: &[(&'a str, &'a str)]) -> Self {
        let mut tree = Self::default();
        let mut left = vec![(Module::new(), vec![root.to_owned()])];
        while let Some((module, places)) = left.pop() {
            let Some((path, text)) = files.iter().find(|(path, _)| places.iter().any(|place| place == path))
            else {
                continue;
            };
            let mut file = File { path, ..File::default() };
            file.walk(text.parse().unwrap_or_default(), &module, &module);
            for name in &file.modules {
                let child: Module = module.iter().chain([name]).cloned().collect();
                let place = child.join("/");
                left.push((child, vec![format!("{place}.rs"), format!("{place}/mod.rs")]));
            }
            tree.files.insert(module, file);
        }
        tree
    }

    fn edges(&self) -> BTreeSet<(&'a str, &'a str)> {
        let mut edges = BTreeSet::new();
        for file in self.files.values() {
            for (path, all) in &file.paths {
                match self.lead(path, 0) {
                    Some(Target::Item(to)) => edges.insert((file.path, to)),
                    Some(Target::Module(to)) if *all => edges.insert((file.path, to)),
                    Some(Target::Module(_)) | None => false,
                };
            }
        }
        edges.retain(|(from, to)| from != to);
        edges
    }

    /// The target of `path`, which starts at the crate's root; `turns` limits the steps, in case names lead in a circle.
    fn lead(&self, path: &[String], turns: usize) -> Option<Target<'a>> {
        let mut depth = 0;
        while depth < path.len() && self.files.contains_key(&path[..=depth]) {
            depth += 1;
        }
        let file = self.files.get(&path[..depth])?;
        let Some(name) = path.get(depth) else { return Some(Target::Module(file.path)) };
        match file.names.get(name) {
            Some(target) if turns < 16 => {
                let further: Module = target.iter().chain(&path[depth + 1..]).cloned().collect();
                self.lead(&further, turns + 1)
            }
            _ => Some(Target::Item(file.path)),
        }
    }
}

impl File<'_> {
    /// Reads the tokens of `module`, which is `file` or a module within it.
    fn walk(&mut self, tokens: TokenStream, file: &Module, module: &Module) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        // Names first, because a path may come before the `use` of its name.
        for (index, token) in tokens.iter().enumerate() {
            if token.is_word("mod")
                && module == file
                && tokens.get(index + 2).is_some_and(|token| token.is_punct(';'))
                && !is_test(&tokens, index)
            {
                self.modules.extend(tokens.get(index + 1).map(ToString::to_string));
            }
        }
        let mut index = 0;
        while index < tokens.len() {
            let token = &tokens[index];
            if is_cfg_test(&tokens, index) {
                index = end_of_item(&tokens, index + 2);
            } else if token.is_word("use") && !continues(&tokens, index) {
                let end = (index..tokens.len()).find(|at| tokens[*at].is_punct(';')).unwrap_or(tokens.len());
                self.use_tree(&tokens[index + 1..end], &[], module);
                index = end;
            } else if token.is_word("mod")
                && let Some(TokenTree::Group(body)) = tokens.get(index + 2)
            {
                let inner: Module = module.iter().cloned().chain([tokens[index + 1].to_string()]).collect();
                self.walk(body.stream(), file, &inner);
                index += 2;
            } else if let TokenTree::Group(group) = token {
                self.walk(group.stream(), file, module);
            } else if matches!(token, TokenTree::Ident(_)) && !continues(&tokens, index) {
                let mut path = vec![token.to_string()];
                while tokens::is_separator(&tokens, index + 1)
                    && let Some(TokenTree::Ident(next)) = tokens.get(index + 3)
                {
                    path.push(next.to_string());
                    index += 3;
                }
                if path.len() > 1
                    && let Some(path) = self.absolute(&path, module)
                {
                    self.paths.push((path, false));
                }
            }
            index += 1;
        }
    }

    /// Reads a `use` behind the segments `before`.
    fn use_tree(&mut self, tokens: &[TokenTree], before: &[String], module: &Module) {
        let mut path = before.to_vec();
        let mut alias = None;
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inner.split(|token| token.is_punct(',')) {
                        if !branch.is_empty() {
                            self.use_tree(branch, &path, module);
                        }
                    }
                    return;
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    self.paths.extend(self.absolute(&path, module).map(|path| (path, true)));
                    return;
                }
                TokenTree::Ident(word) if word == "as" => {
                    alias = tokens.get(index + 1).map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                _ => {}
            }
            index += 1;
        }
        let Some(target) = self.absolute(&path, module) else { return };
        if let Some(name) = alias.or_else(|| path.last().cloned()).filter(|name| name != "_") {
            // A name for itself would lead nowhere.
            let itself: Module = module.iter().cloned().chain([name.clone()]).collect();
            if target != itself {
                self.names.insert(name, target.clone());
            }
        }
        self.paths.push((target, false));
    }

    /// The path from the crate's root of `path` in `module`; none if it is of another crate or a local name.
    fn absolute(&self, path: &[String], module: &Module) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some(module.iter().chain(rest).cloned().collect()),
            "super" => {
                let above = module.split_last()?.1.to_vec();
                let is_super = rest.first().is_some_and(|next| next == "super");
                if is_super {
                    self.absolute(rest, &above)
                } else {
                    Some(above.into_iter().chain(rest.iter().cloned()).collect())
                }
            }
            name => {
                let known = self.names.get(name).cloned();
                let own = || {
                    self.modules
                        .contains(name)
                        .then(|| module.iter().cloned().chain([name.to_owned()]).collect())
                };
                let start: Module = known.or_else(own)?;
                Some(start.into_iter().chain(rest.iter().cloned()).collect())
            }
        }
    }
}

/// Whether the name at `index` goes on after a `::`, `.` or `'`.
fn continues(tokens: &[TokenTree], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| tokens.get(before));
    before.is_some_and(|token| {
        token.is_punct('.') || token.is_punct(':') && tokens::is_separator(tokens, index - 2)
    })
}

/// Whether `#[cfg(test)]` stands at `index`.
fn is_cfg_test(tokens: &[TokenTree], index: usize) -> bool {
    tokens[index].is_punct('#')
        && tokens.get(index + 1).is_some_and(|group| group.to_string().replace(' ', "") == "[cfg(test)]")
}

/// Whether the item whose keyword is at `index` stands behind `#[cfg(test)]`.
fn is_test(tokens: &[TokenTree], index: usize) -> bool {
    (0..index)
        .rev()
        .take_while(|at| !tokens[*at].is_punct(';') && !tokens[*at].is_group(Delimiter::Brace))
        .any(|at| is_cfg_test(tokens, at))
}

/// The index of the last token of the item that begins at `index`.
fn end_of_item(tokens: &[TokenTree], index: usize) -> usize {
    let is_use = tokens[index.min(tokens.len())..].iter().take(4).any(|token| token.is_word("use"));
    let ends = |token: &TokenTree| token.is_punct(';') || (!is_use && token.is_group(Delimiter::Brace));
    (index..tokens.len()).find(|at| ends(&tokens[*at])).unwrap_or(tokens.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn imports(files: &[(&str, &str)], expected: &[(&str, &str)]) {
        let files: Vec<_> =
            files.iter().map(|(path, text)| (format!("a/src/{path}"), (*text).to_owned())).collect();
        let found = edges(&files);
        let found: Vec<_> = found
            .iter()
            .map(|(from, to)| (from.trim_start_matches("a/src/"), to.trim_start_matches("a/src/")))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_what_it_names() {
        let lib = ("lib.rs", "mod one; pub mod two;");
        let two = ("two/mod.rs", "mod inner; pub use self::inner::Thing; pub struct Own;");
        let inner = ("two/inner.rs", "pub struct Thing;");
        let facade = ("two/mod.rs", "two/inner.rs");
        for (text, to) in [
            ("use crate::two::Thing;", "two/inner.rs"),
            ("use crate::{two::{self, Own}};", "two/mod.rs"),
            ("use crate::two; fn f() -> two::Thing { two::Thing }", "two/inner.rs"),
            ("use super::two::Thing as Other;", "two/inner.rs"),
            ("use crate::two::*;", "two/mod.rs"),
            ("fn f() { g(crate::two::Own) }", "two/mod.rs"),
            ("mod m { use super::super::two::Own; }", "two/mod.rs"),
        ] {
            imports(&[lib, two, inner, ("one.rs", text)], &[("one.rs", to), facade]);
        }
        for text in [
            "use crate::two;",
            "use std::two::Thing; fn f(two: X) { two.inner }",
            "#[cfg(test)] mod tests { use crate::two::Thing; }",
            "#[cfg(test)] use crate::two::{Own, Thing};\nfn f() {}",
            "/// [`crate::two::Thing`]\nconst X: &str = \"crate::two::Thing\";",
        ] {
            imports(&[lib, two, inner, ("one.rs", text)], &[facade]);
        }
    }

    #[test]
    fn children_reach_siblings_through_their_parents_names() {
        let mod_rs = ("x/mod.rs", "mod a; mod b; use self::b::B; fn f(_: B) { a::run() }");
        let b = ("x/b.rs", "pub(super) struct B;");
        let facade = [("x/mod.rs", "x/a.rs"), ("x/mod.rs", "x/b.rs")];
        let with = |text, edge: (&'static str, &'static str)| {
            let mut expected = vec![edge];
            expected.extend(facade);
            imports(&[("main.rs", "mod x;"), mod_rs, b, ("x/a.rs", text)], &expected);
        };
        with("use super::B;", ("x/a.rs", "x/b.rs"));
        with("fn run() { super::f() }", ("x/a.rs", "x/mod.rs"));
    }

    #[test]
    fn test_files_and_files_of_no_module_import_nothing() {
        imports(
            &[
                ("lib.rs", "mod a; #[cfg(test)]\nmod tests;"),
                ("a.rs", ""),
                ("tests.rs", "use crate::a::X;"),
                ("stray.rs", "use crate::a::X;"),
            ],
            &[],
        );
    }
}
