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
    /// The innermost unit in the path `cgroup`; `None` if systemd did not create the cgroup.
    ///
    /// `/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope` is `app-x.scope`.
    pub fn of(cgroup: &Name) -> Option<Self> {
        let path = cgroup.as_bytes();
        let mut end = path.len();
        loop {
            let start = path[..end].iter().rposition(|byte| *byte == b'/')?;
            let part = &path[start + 1..end];
            if is_unit(part) {
                return Some(Self { name: Name::new(part), cgroup: Name::new(&path[..end]) });
            }
            end = start;
        }
    }
}

/// The unit of the system's manager that `cgroup` belongs to, as `nginx.service`; for a unit of a user's manager
/// `user@1000.service/app-x.scope`.
///
/// It is the outermost service or scope of the path, whose place only root can create: a user, or a service with a delegated
/// cgroup, can give any name to a cgroup further inside.
pub fn unit_path(cgroup: &Name) -> Option<Vec<u8>> {
    Some(parts_of_unit(cgroup)?.0)
}

/// The path of that unit's own cgroup.
pub fn unit_cgroup(cgroup: &Name) -> Option<Name> {
    let (_, length) = parts_of_unit(cgroup)?;
    cgroup.as_bytes().get(..length).map(Name::new)
}

/// Whether the name of a cgroup is that of a service or a scope.
fn is_unit(part: &[u8]) -> bool {
    [&b".service"[..], b".scope"].iter().any(|kind| part.len() > kind.len() && part.ends_with(kind))
}

/// The unit, and the length of the path of its cgroup.
fn parts_of_unit(cgroup: &Name) -> Option<(Vec<u8>, usize)> {
    let mut end = 0;
    let parts = cgroup.as_bytes().split(|byte| *byte == b'/').map(|part| {
        let start = end;
        end = start + part.len() + 1;
        (part, start + part.len())
    });
    let mut units = parts.filter(|(part, _)| is_unit(part));
    let (system, length) = units.next()?;
    let user = if system.starts_with(b"user@") { units.next() } else { None };
    Some(
        user.map_or_else(|| (system.to_vec(), length), |(user, length)| ([system, user].join(&b'/'), length)),
    )
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

    #[test]
    fn nobody_but_root_chooses_the_name_of_a_system_unit() {
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/a-b.slice/x.service/nginx.service", Some("x.service")),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice/app-x.scope/sshd.service",
                Some("user@7.service/app-x.scope"),
            ),
            ("/user.slice/user-7.slice/user@7.service/init.scope", Some("user@7.service/init.scope")),
            ("/user.slice/user-7.slice/user@7.service", Some("user@7.service")),
            ("/user.slice/user-7.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice", None),
            ("/", None),
        ] {
            let unit = unit_path(&Name::from(path));
            assert_eq!(unit, expected.map(|unit| unit.as_bytes().to_vec()), "{path}");
        }
    }

    #[test]
    fn the_cgroup_of_a_unit_ends_with_its_name() {
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("/system.slice/nginx.service")),
            ("/system.slice/x.service/payload/nginx.service", Some("/system.slice/x.service")),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice/app-x.scope/sshd.service",
                Some("/user.slice/user-7.slice/user@7.service/app.slice/app-x.scope"),
            ),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice",
                Some("/user.slice/user-7.slice/user@7.service"),
            ),
            ("/user.slice", None),
            ("/", None),
        ] {
            assert_eq!(unit_cgroup(&Name::from(path)), expected.map(Name::from), "{path}");
        }
    }
}
