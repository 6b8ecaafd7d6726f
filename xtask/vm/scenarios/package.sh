# The .deb is upgraded while memmon runs, removed, and purged; then nothing of it is left. (Last in its machine.)
newer=/run/newer
dpkg-deb --raw-extract ./memmon.deb $newer
sed -i 's/^Version: .*/&+vm1/' $newer/DEBIAN/control
dpkg-deb -Znone --build $newer $newer.deb >/dev/null
version() { dpkg-query --show --showformat='${Version}' memmon; }
before=$(version)

memmon_runs_with 'check_interval = 7'
pid=$(memmon_pid)
mark
dpkg --install $newer.deb
[ "$(version)" = "$before+vm1" ] || fail "after the upgrade it is $(version)"
is memmon.service ActiveState active || fail "after the upgrade it is $(property memmon.service ActiveState)"
[ "$(memmon_pid)" != "$pid" ] || fail 'the old program still runs after the upgrade'
must_say '^memmon 2.* started. .*Interval: 7s'
test -e /etc/memmon/enabled || fail 'the upgrade disabled memmon'
grep -q '^check_interval = 7$' $CONFIG || fail 'the upgrade overwrote the configuration'

dpkg --remove memmon
is memmon.service ActiveState inactive || fail "after the removal the unit is $(property memmon.service ActiveState)"
! command -v memmon || fail 'the program is still there'
! test -e $PIN || fail "left: $(find $PIN | tr '\n' ' ')"
[ "$(bpftool prog show | grep -c 'name rss_stat' || true)" = 0 ] || fail 'a program is still attached'
grep -q '^check_interval = 7$' $CONFIG || fail 'the removal deleted the configuration'
test -e /var/log/memory_monitor.log || fail 'the removal deleted the log'

dpkg --purge memmon
tree >/run/tree.after
diff /run/tree.before /run/tree.after || fail "after purge: $(diff /run/tree.before /run/tree.after | grep '^[<>]' | tr '\n' ' ')"
