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
    let printed = on_a_machine(&format!(
        "{PACKAGES}\n{}",
        r##"
        tree >before
        in_machine dpkg-deb --field /tmp/memmon.deb Depends
        in_machine dpkg-deb --field /tmp/memmon.deb Homepage Vcs-Git Vcs-Browser
        echo "== installed"
        install /tmp/memmon.deb
        asked
        in_machine /usr/sbin/memmon --version
        in_machine dpkg --verify memmon
        # dpkg knows every file by its checksum: it reports a byte more in one.
        test -s machine/var/lib/dpkg/info/memmon.md5sums
        echo >>machine/usr/share/doc/memmon/README.md
        in_machine dpkg --verify memmon || true
        grep ExecStart= machine/usr/lib/systemd/system/memmon.service machine/lib/systemd/system/memmon.service || true
        ! test -e machine/etc/memmon/enabled
        in_machine /usr/sbin/memmon check | tail -n 1

        echo "== upgraded"
        in_machine /usr/sbin/memmon enable --yes >/dev/null
        : >machine/tmp/asked
        install /tmp/next.deb
        asked
        # Neither a question nor a second configuration: what `memmon enable` writes is no file of the package.
        ls machine/etc/memmon | tr '\n' ' '
        tail -n 1 machine/etc/memmon/config.toml
        in_machine /usr/sbin/memmon check | grep -c 'memmon enable' || true
        echo "# an edit" >>machine/etc/memmon/config.toml
        sed -i "s/^Version: .*/Version: 100.0.0-1/" machine/tmp/next/DEBIAN/control
        echo "# of the version after it" >>machine/tmp/next/etc/memmon/config.toml
        in_machine dpkg-deb --root-owner-group --build /tmp/next /tmp/after.deb
        install /tmp/after.deb
        test -e machine/etc/memmon/enabled
        tail -n 1 machine/etc/memmon/config.toml

        echo "== removed"
        : >machine/tmp/asked
        echo line >machine/var/log/memory_monitor.log
        echo line >machine/var/log/memory_monitor.log.1.gz
        in_machine dpkg --remove memmon
        asked
        ! test -e machine/usr/sbin/memmon
        test -e machine/etc/memmon/enabled
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
            printed.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no {name} in:\n{printed}"));
        rest.split("\n== ").next().unwrap_or(rest).to_owned()
    };
    // README.md promises this for packages that are built on Debian 12.
    assert!(printed.contains("libc6 (>= 2.34)"), "{printed}");
    // There is no public place that these could name.
    assert!(!printed.contains("Homepage") && !printed.contains("Vcs-"), "{printed}");
    // systemd starts it with the next boot, and then it terminates nothing.
    let installed = section("installed");
    assert!(installed.contains("??5??????   /usr/share/doc/memmon/README.md\n"), "{installed}");
    assert!(installed.contains("To let it terminate them: memmon enable"), "{installed}");
    assert!(installed.contains("ExecStart=/usr/sbin/memmon run --dry-run-until-enabled\n"), "{installed}");
    assert!(installed.ends_with("it terminates nothing until `memmon enable` is run."), "{installed}");
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
    assert!(upgraded.contains("\nconf.d config.toml enabled # of the next version\n0\n"), "{upgraded}");
    assert!(upgraded.ends_with("# an edit"), "{upgraded}");

    let removed = section("removed");
    assert!(removed.lines().any(|line| line.starts_with("systemctl") && line.contains("stop")), "{removed}");
    assert!(removed.ends_with("# an edit"), "{removed}");
    section("nothing is left");
}
