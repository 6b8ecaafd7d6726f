//! Lists of names, of `[whitelist]` and of rules, and the entries of them that are probably mistakes.

use super::{
    foreign::Of,
    toml_document::List,
    values::{Compile, Reader},
    warning::{Concern, GLOB, other_name},
};
use crate::policy::NamePatterns;

/// The bytes of a comm without its NUL: TASK_COMM_LEN - 1 of linux/sched.h.
const COMM_LEN: usize = 15;

pub(super) const NAMES: Compile<NamePatterns> = |names| NamePatterns::new(names.iter().copied());

impl Reader<'_, '_> {
    /// The list, with warnings about entries that are probably mistakes.
    pub(super) fn names(&mut self, list: &List<String>) -> NamePatterns {
        let names = self.patterns(Of::Names, list, NAMES);
        for (name, span) in &names {
            let name = (*name).to_owned();
            if let Some(real) = other_name(&name)
                && !names.iter().any(|(listed, _)| *listed == real)
            {
                self.warn(span, Concern::OtherName { name, real });
            } else if list.key == "whitelist.names" && is_every_name(&name) {
                self.warn(span, Concern::EveryName { name });
            } else if ["/", "./", "~/", "*/", "**/"].iter().any(|start| name.starts_with(start)) {
                self.warn(span, Concern::PathForName { name });
            } else if name.len() > COMM_LEN && !name.contains(GLOB) {
                self.warn(span, Concern::LongName { name });
            }
        }
        self.compiled(list, names, NAMES)
    }
}

/// Whether the pattern `name` matches names that have nothing in common.
fn is_every_name(name: &str) -> bool {
    NamePatterns::new([name]).is_ok_and(|pattern| {
        ["a", "Zz-_.9", "0+kworker/u8:2"].iter().all(|name| pattern.find(name.as_bytes()).is_some())
    })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::warnings;

    #[test]
    fn names_of_rules_have_the_warnings_of_whitelisted_ones() {
        for (name, warned) in [
            ("/usr/bin/x", "\"/usr/bin/x\" is a path, and names are compared"),
            ("**/x", "\"**/x\" is a path, and names are compared"),
            ("docker", "its daemon is \"dockerd\""),
            ("gnome-terminal-server", "is longer than the 15 bytes of a comm"),
        ] {
            for text in [
                format!("whitelist.names = ['{name}']"),
                format!("[[rule]]\nname = 'a'\nnames = ['{name}']\ngb = 1"),
                format!("[[rule]]\nname = 'a'\nnames = ['*']\nnot = {{ names = ['{name}'] }}\ngb = 1"),
            ] {
                assert!(warnings(&text).contains(warned), "{text}: {}", warnings(&text));
            }
        }
        // A path is a path, however long.
        let long = warnings("[[rule]]\nname = 'a'\nnames = ['/usr/lib/systemd/systemd-journald']\ngb = 1");
        assert!(!long.contains("bytes of a comm"), "{long}");
    }
}
