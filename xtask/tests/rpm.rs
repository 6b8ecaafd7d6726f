//! The .rpm from its installation to its end, by the real rpm, on a throw-away copy of this machine (machine/).

mod machine;

use machine::on_a_machine;

#[test]
#[ignore = "needs root, mounts, rpm and MEMMON_RPM, the path of a .rpm from `cargo xtask package`"]
fn it_is_installed_installed_again_and_erased() {
    let printed = on_a_machine(
        r##"
        cp "$MEMMON_RPM" machine/tmp/memmon.rpm
        # Scriptlets have a $PATH of rpm's.
        rm -f machine/usr/bin/systemctl
        cp machine/tmp/stand-ins/systemctl machine/usr/bin/systemctl
        # Its dependencies are on this machine, but not in the database of rpm.
        rpm() { : >machine/tmp/asked; in_machine rpm --nodeps "$@" 2>&1; }
        tree | grep -v ' var/lib/rpm' >before
        echo "== installed"
        rpm --install /tmp/memmon.rpm
        asked
        in_machine /usr/sbin/memmon --version
        in_machine rpm --query --configfiles memmon
        ! test -e machine/etc/memmon/enabled

        echo "== upgraded"
        in_machine /usr/sbin/memmon enable --yes >/dev/null
        echo "# an edit" >>machine/etc/memmon/config.toml
        rpm --upgrade --force /tmp/memmon.rpm
        asked
        ls machine/etc/memmon | tr '\n' ' '
        tail -n 1 machine/etc/memmon/config.toml

        echo "== erased"
        rpm --erase memmon
        ! test -e machine/etc/memmon/enabled
        ! test -e machine/etc/memmon/conf.d
        asked
        tail -n 1 machine/etc/memmon/config.toml.rpmsave
        rm -r machine/etc/memmon
        tree | grep -v ' var/lib/rpm' | diff before -
        echo "== nothing is left"
        "##,
    );
    let section = |name: &str| {
        let (_, rest) =
            printed.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no {name} in:\n{printed}"));
        rest.split("\n== ").next().unwrap_or(rest).to_owned()
    };
    let installed = section("installed");
    assert!(installed.contains("systemctl --no-reload preset memmon.service\n"), "{installed}");
    assert!(installed.contains("memmon is not started"), "{installed}");
    assert!(installed.contains("\nmemmon 2."), "{installed}");
    assert!(
        installed.ends_with("/etc/logrotate.d/memmon\n/etc/memmon/conf.d/README\n/etc/memmon/config.toml"),
        "{installed}"
    );

    let upgraded = section("upgraded");
    assert!(upgraded.contains("systemctl try-restart memmon.service\n"), "{upgraded}");
    assert!(!upgraded.contains("disable") && !upgraded.contains("preset"), "{upgraded}");
    assert!(upgraded.ends_with("\nconf.d config.toml enabled # an edit"), "{upgraded}");

    let erased = section("erased");
    assert!(erased.contains("systemctl --no-reload disable --now memmon.service\n"), "{erased}");
    assert!(erased.ends_with("# an edit"), "{erased}");
    section("nothing is left");
}
