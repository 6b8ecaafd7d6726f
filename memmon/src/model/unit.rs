//! The systemd unit of a process, from its cgroup: the name that an administrator uses to stop or edit it.

use serde::Serialize;

use super::Name;

/// A service or a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// `nginx.service`, the name of its cgroup.
    pub name: Name,
    /// The path of its cgroup.
    pub cgroup: Name,
}

impl Unit {
    /// The innermost unit in the path `cgroup`; none if systemd did not create the cgroup.
    ///
    /// `/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope` is `app-x.scope`.
    pub fn of(cgroup: &Name) -> Option<Self> {
        let path = cgroup.as_bytes();
        let mut end = path.len();
        loop {
            let start = path[..end].iter().rposition(|byte| *byte == b'/')?;
            let part = &path[start + 1..end];
            if [&b".service"[..], b".scope"]
                .iter()
                .any(|kind| part.len() > kind.len() && part.ends_with(kind))
            {
                return Some(Self { name: Name::new(part), cgroup: Name::new(&path[..end]) });
            }
            end = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_service_or_scope_is_the_unit() {
        for (path, expected) in [
            ("/system.slice/nginx.service", Some(("nginx.service", "/system.slice/nginx.service"))),
            ("/system.slice/x.service/payload/a", Some(("x.service", "/system.slice/x.service"))),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope",
                Some(("app-x.scope", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope")),
            ),
            ("/user.slice/user-1000.slice", None),
            ("/", None),
            ("", None),
            ("/.service/.scope", None),
            ("no.service", None),
        ] {
            let unit = Unit::of(&Name::from(path));
            let expected = expected.map(|(name, cgroup)| Unit { name: name.into(), cgroup: cgroup.into() });
            assert_eq!(unit, expected, "{path}");
        }
    }
}
