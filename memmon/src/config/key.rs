//! A row of the table of keys (`keys.rs`), and a section of it.

/// A section of the configuration.
#[derive(Debug)]
pub struct Section {
    /// Its name, without brackets.
    pub name: &'static str,
    /// Its heading: in two pairs of brackets if there may be several of it.
    pub heading: &'static str,
    /// Its purpose.
    pub about: &'static str,
    /// Its keys, in the order in which they are shown.
    pub keys: Vec<&'static Key>,
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// Its default, or an example.
    pub value: Shown,
    /// Values of this kind that are allowed.
    pub allowed: Allowed,
    /// One sentence about it, without a full stop.
    pub help: &'static str,
}

/// A kind of value.
#[derive(Debug)]
pub struct Kind {
    /// Its name with an article; for a list, that of an element.
    pub what: &'static str,
    /// Whether the value is a list.
    pub is_list: bool,
    /// The words of which it is one; empty for other kinds.
    pub words: fn() -> Vec<&'static str>,
    /// The keys of a table within the section; empty for other kinds.
    pub keys: fn() -> Vec<&'static Key>,
}

/// A value in the language of the file.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// The value of a key that is left out.
    Default(&'static str),
    /// Some value: a key that is left out has none.
    Example(&'static str),
}

/// The allowed values.
#[derive(Debug)]
pub enum Allowed {
    /// All of the kind, or those that the kind itself describes.
    Any,
    /// Numbers.
    Range {
        /// A noun phrase for messages: what is counted.
        what: &'static str,
        /// The lowest.
        from: f64,
        /// The highest.
        to: f64,
        /// The meaning of 0, if that is allowed although it is not in the range.
        zero: Option<&'static str>,
    },
    /// Texts with this ending.
    Ending(&'static str),
    /// A file that lists processes, as a list does.
    Listing,
}

impl Key {
    /// Whether it lists processes or other things.
    pub(super) const fn is_list(&self) -> bool {
        self.kind.is_list || matches!(self.allowed, Allowed::Listing)
    }

    /// The allowed values as a phrase, if the kind alone does not say it.
    pub fn range(&self) -> Option<String> {
        let words = (self.kind.words)();
        match self.allowed {
            Allowed::Range { what, from, to, zero } => {
                let zero = zero.map(|meaning| format!(", or 0 for {meaning}")).unwrap_or_default();
                Some(format!("{what}, from {from} to {to}{zero}"))
            }
            Allowed::Ending(ending) => Some(format!("a path from the root that ends in {ending}")),
            _ if words.is_empty() => None,
            _ => Some(format!("one of: \"{}\"", words.join("\", \""))),
        }
    }
}

/// The value of a key that is left out.
pub(super) const fn default(text: &'static str) -> Shown {
    Shown::Default(text)
}

/// A key that is left out has no value.
pub(super) const fn example(text: &'static str) -> Shown {
    Shown::Example(text)
}

/// Numbers of `what`.
pub(super) const fn range(what: &'static str, from: f64, to: f64) -> Allowed {
    Allowed::Range { what, from, to, zero: None }
}

/// Numbers of `what`, or 0, which means `zero`.
pub(super) const fn range_or(zero: &'static str, what: &'static str, from: f64, to: f64) -> Allowed {
    Allowed::Range { what, from, to, zero: Some(zero) }
}
