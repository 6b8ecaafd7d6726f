//! The imports between files, from the module tree of a crate and the paths that its production code names.
//!
//! A path leads to the file that defines its item, also through a `use` in a `mod.rs`. A `use` of a module alone is not an
//! import yet; the use of an item of that module is.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Module, Source};

/// The edges `importer → imported`, by paths in the checkout.
pub(super) type Edges = BTreeSet<(String, String)>;

/// The imports between the files of each crate in `files` (path and text).
pub(super) fn edges(files: &[(String, String)]) -> Edges {
    let parsed = files.iter().filter(|(path, _)| path.ends_with(".rs"));
    let sources: BTreeMap<&str, Source> =
        parsed.filter_map(|(path, text)| Some((&**path, Source::parse(path, text).ok()?))).collect();
    let crates = sources.keys().filter_map(|path| Some((*path, path.rsplit_once("/src/")?)));
    let roots = crates.filter(|(_, (_, below))| ["lib.rs", "main.rs"].contains(below));
    roots
        .flat_map(|(path, (folder, _))| Tree::read(&format!("{folder}/src"), path, &sources).edges())
        .collect()
}

/// The files of a crate by their modules, each with its path.
struct Tree<'a>(BTreeMap<Module, (&'a str, &'a Source)>);

/// The target of a path.
enum Target<'a> {
    Item(&'a str),
    Module(&'a str),
}

impl<'a> Tree<'a> {
    /// The files from `root` along the `mod` lines.
    fn read(folder: &str, root: &str, sources: &'a BTreeMap<&str, Source>) -> Self {
        let mut tree = BTreeMap::new();
        let mut left = vec![(Module::new(), vec![root.to_owned()])];
        while let Some((module, places)) = left.pop() {
            let Some((path, source)) = places.iter().find_map(|place| sources.get_key_value(place.as_str()))
            else {
                continue;
            };
            for name in &source.modules {
                let child: Module = module.iter().chain([name]).cloned().collect();
                let place = format!("{folder}/{}", child.join("/"));
                left.push((child, vec![format!("{place}.rs"), format!("{place}/mod.rs")]));
            }
            tree.insert(module, (*path, source));
        }
        Self(tree)
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (file, source) in self.0.values() {
            for path in source.paths.iter().filter(|path| !path.is_test) {
                match path.target.as_deref().and_then(|target| self.lead(target, 0)) {
                    Some(Target::Item(to)) => edges.insert(((*file).to_owned(), to.to_owned())),
                    Some(Target::Module(to)) if path.all => edges.insert(((*file).to_owned(), to.to_owned())),
                    Some(Target::Module(_)) | None => false,
                };
            }
        }
        edges.retain(|(from, to)| from != to);
        edges
    }

    /// The target of `path`, which starts at the crate's root; `turns` limits the steps, in case names lead in a circle.
    fn lead(&self, path: &[String], turns: usize) -> Option<Target<'a>> {
        let depth =
            (0..path.len()).find(|depth| !self.0.contains_key(&path[..=*depth])).unwrap_or(path.len());
        let (file, source) = self.0.get(&path[..depth])?;
        let Some(name) = path.get(depth) else { return Some(Target::Module(file)) };
        match source.names.get(name) {
            Some(target) if turns < 16 => {
                let further: Module = target.iter().chain(&path[depth + 1..]).cloned().collect();
                self.lead(&further, turns + 1)
            }
            _ => Some(Target::Item(file)),
        }
    }
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
