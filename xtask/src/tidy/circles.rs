//! Circles of imports: files that cannot be read one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::imports::Edges;

/// Imports, from and to, without which there is no circle in this checkout. This list only gets shorter: to remove a line,
/// remove the circle.
pub(super) const EXCEPTIONS: &[(&str, &str)] = &[
    ("memmon/src/config/mod.rs", "memmon/src/config/file.rs"),
    ("memmon/src/observe/bpf/load.rs", "memmon/src/observe/bpf.rs"),
    ("memmon/src/report/metrics/export.rs", "memmon/src/report/reporter.rs"),
    ("memmon/src/report/metrics/mod.rs", "memmon/src/report/metrics/export.rs"),
    ("memmon/src/report/notify/mod.rs", "memmon/src/report/outputs.rs"),
    ("memmon/src/report/notify/mod.rs", "memmon/src/report/reporter.rs"),
];

/// The complaints about `edges`, each with its file: an import that is part of a circle and not `excepted`, or an exception
/// that is not needed.
pub(super) fn complaints(edges: &Edges, excepted: &[(&str, &str)]) -> Vec<(String, String)> {
    let is_excepted = |(from, to): &(String, String)| excepted.contains(&(from.as_str(), to.as_str()));
    let refused: Edges = edges.iter().filter(|edge| !is_excepted(edge)).cloned().collect();
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for (from, to) in &refused {
        if let Some(way) = way(&refused, to, from) {
            // One complaint for each circle, whatever file of it comes first.
            let files: BTreeSet<&str> = way.iter().copied().collect();
            if seen.insert(files) {
                complaints.push((from.clone(), format!("a circle of imports: {from} → {}", way.join(" → "))));
            }
        }
    }
    for (from, to) in excepted {
        let edge = ((*from).to_owned(), (*to).to_owned());
        if !edges.contains(&edge) || way(edges, to, from).is_none() {
            complaints.push((
                edge.0,
                format!("its import of {to} is not part of a circle: remove it from the list"),
            ));
        }
    }
    complaints
}

/// The shortest way along `edges`, both ends included.
fn way<'a>(edges: &'a Edges, start: &'a str, end: &'a str) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut left = VecDeque::from([start]);
    while let Some(file) = left.pop_front() {
        if file == end {
            let back = std::iter::successors(Some(end), |file| before.get(file).copied());
            let mut way: Vec<&str> = back.collect();
            way.reverse();
            return Some(way);
        }
        for (_, to) in edges.iter().filter(|(from, _)| from == file) {
            if to != start && !before.contains_key(to.as_str()) {
                before.insert(to, file);
                left.push_back(to);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(edges: &[(&str, &str)], excepted: &[(&str, &str)]) -> Vec<String> {
        let edges = edges.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        complaints(&edges, excepted).into_iter().map(|(file, what)| format!("{file}: {what}")).collect()
    }

    #[test]
    fn circles_are_refused_and_ways_are_not() {
        assert_eq!(of(&[("a", "b"), ("b", "c"), ("a", "c")], &[]), [""; 0]);
        assert_eq!(of(&[("a", "b"), ("b", "a")], &[]), ["a: a circle of imports: a → b → a"]);
        assert_eq!(
            of(&[("a", "b"), ("b", "c"), ("c", "a"), ("x", "a")], &[]),
            ["a: a circle of imports: a → b → c → a"]
        );
    }

    #[test]
    fn exceptions_are_for_circles_that_are_there() {
        let circle = [("a", "b"), ("b", "a")];
        assert_eq!(of(&circle, &[("b", "a")]), [""; 0]);
        let gone = ["b: its import of a is not part of a circle: remove it from the list"];
        assert_eq!(of(&[("a", "b")], &[("b", "a")]), gone);
        assert_eq!(of(&[("b", "a")], &[("b", "a")]), gone);
    }
}
