# /run/memmon is removed under the daemon, as `rm -r` does: a reload brings its lock, its socket and the metrics' socket back.
memmon_runs_with
sed -i 's|^\[metrics\].*|&\nlisten = "/run/memmon/metrics.sock"|' $CONFIG
pid=$(memmon_pid)
systemctl reload memmon.service
within $PATIENCE test -S /run/memmon/metrics.sock || fail 'no socket for metrics'
grep -q ' / /run ro,' /proc/"$pid"/mountinfo || fail "memmon may write to /run: $(grep ' /run ' /proc/"$pid"/mountinfo)"
in_place() { [ "$(stat -c '%U %a' /run/memmon)" = 'root 755' ] && test -f /run/memmon/lock && memmon status; }
mounts() { grep -c ' /run/memmon ' /proc/"$pid"/mountinfo || true; }

for how in 'gone' 'created by hand'; do
    rm -r /run/memmon
    ! memmon status || fail 'memmon status works without its socket'
    [ "$how" = gone ] || mkdir /run/memmon
    systemctl reload memmon.service || fail "systemctl reload: $(property memmon.service ReloadResult)"
    within $PATIENCE in_place || fail "$how: $(ls -la /run/memmon; memmon status 2>&1)"
    within $PATIENCE test -S /run/memmon/metrics.sock || fail "$how: the socket for metrics did not come back"
    [ "$(mounts)" = 1 ] || fail "$how: $(mounts) mounts"
    systemctl reload memmon.service
    [ "$(mounts)" = 1 ] || fail "a reload mounted it once more: $(mounts) mounts"
done

[ "$(memmon_pid)" = "$pid" ] || fail 'memmon was restarted'
systemctl stop memmon.service
! test -e /run/memmon || fail "left: $(find /run/memmon | tr '\n' ' ')"
memmon_starts
memmon status || fail 'no status after the next start'
