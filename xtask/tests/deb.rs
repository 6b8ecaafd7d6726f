//! The .deb from its installation to its purge, by the real dpkg, on a throw-away copy of this machine (machine/).

mod machine;

use machine::on_a_machine;

/// The package, and one of the next version with a different configuration.
const PACKAGES: &str = r##"
# A container may forbid that services start; and what was installed before is not what is tried.
rm -f machine/usr/sbin/policy-rc.d
cp "$MEMMON_DEB" machine/tmp/memmon.deb
in_machine sh -euc '
    dpkg-deb --raw-extract /tmp/memmon.deb /tmp/next
    sed -i "s/^Version: .*/Version: 99.0.0-1/" /tmp/next/DEBIAN/control
    echo "# of the next version" >>/tmp/next/etc/memmon/config.toml
    dpkg-deb --root-owner-group --build /tmp/next /tmp/next.deb'
# As apt installs without a terminal. The dependencies of the binary are those of this machine, so they are ignored here.
install() { : >machine/tmp/asked; in_machine env DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-depends --install "$1"; }
"##;

#[test]
#[ignore = "needs root, mounts and MEMMON_DEB, the path of a .deb from `cargo xtask package`"]
fn it_is_installed_upgraded_removed_and_purged() {
    let said = on_a_machine(&format!(
        "{PACKAGES}\n{}",
        r##"
        tree >before
        in_machine dpkg-deb --field /tmp/memmon.deb Depends
        echo "== installed"
        install /tmp/memmon.deb
        asked
        in_machine /usr/sbin/memmon --version
        in_machine dpkg --verify memmon

        echo "== upgraded"
        echo "# an edit" >>machine/etc/memmon/config.toml
        install /tmp/next.deb
        asked
        tail -n 1 machine/etc/memmon/config.toml

        echo "== removed"
        : >machine/tmp/asked
        echo line >machine/var/log/memory_monitor.log
        echo line >machine/var/log/memory_monitor.log.1.gz
        in_machine dpkg --remove memmon
        asked
        ! test -e machine/usr/sbin/memmon
        tail -n 1 machine/etc/memmon/config.toml
        test -e machine/var/log/memory_monitor.log

        echo "== purged"
        in_machine dpkg --purge memmon
        # dpkg's own books, and what it keeps of others.
        tree | grep -v ' var/lib/dpkg\| var/log/\(dpkg\|alternatives\).log\|deb-systemd-helper-\| var/lib/systemd$' >after
        grep -v ' var/lib/dpkg\| var/log/\(dpkg\|alternatives\).log\|deb-systemd-helper-\| var/lib/systemd$' before |
            diff - after
        echo "== nothing is left"
        "##
    ));
    let section = |name: &str| {
        let (_, rest) =
            said.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no {name} in:\n{said}"));
        rest.split("\n== ").next().unwrap_or(rest).to_owned()
    };
    // README.md promises this for packages that are built on Debian 12.
    assert!(said.contains("libc6 (>= 2.34)"), "{said}");
    // Enabled and not started, because it would terminate processes over the limits at once.
    let installed = section("installed");
    assert!(installed.contains("memmon is enabled and not started"), "{installed}");
    assert!(installed.contains(" preset memmon.service\n"), "{installed}");
    assert!(
        !installed.lines().any(|line| line.starts_with("systemctl") && line.contains(" start ")),
        "{installed}"
    );
    assert!(installed.contains("\nmemmon 2."), "{installed}");

    let upgraded = section("upgraded");
    let restarts = |line: &str| line == "systemctl try-restart memmon.service";
    assert!(upgraded.lines().any(restarts), "{upgraded}");
    assert!(!upgraded.contains("systemctl stop memmon"), "{upgraded}");
    assert!(upgraded.ends_with("# an edit"), "{upgraded}");

    let removed = section("removed");
    assert!(removed.lines().any(|line| line.starts_with("systemctl") && line.contains("stop")), "{removed}");
    assert!(removed.ends_with("# an edit"), "{removed}");
    section("nothing is left");
}
