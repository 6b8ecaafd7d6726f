# /run/memmon is removed under the daemon, as `rm -r` does: a reload brings its socket, its lock and the metrics' socket back.
memmon_runs_with
sed -i 's|^\[metrics\].*|&\nlisten = "/run/memmon/metrics.sock"|' $CONFIG
pid=$(memmon_pid)
systemctl reload memmon.service
within $PATIENCE test -S /run/memmon/metrics.sock || fail 'no socket for metrics'
in_place() { [ "$(stat -c '%U %a' /run/memmon)" = 'root 755' ] && test -f /run/memmon/lock && memmon status; }

for how in 'gone' 'made by hand'; do
    rm -r /run/memmon
    ! memmon status || fail 'memmon status works without its socket'
    [ "$how" = gone ] || mkdir /run/memmon
    systemctl reload memmon.service || fail "systemctl reload: $(property memmon.service ReloadResult)"
    within $PATIENCE in_place || fail "$how: $(ls -la /run/memmon; memmon status 2>&1)"
    within $PATIENCE test -S /run/memmon/metrics.sock || fail "$how: the socket for metrics did not come back"
    mounts=$(grep -c ' /run/memmon ' /proc/"$pid"/mountinfo)
    systemctl reload memmon.service
    [ "$(grep -c ' /run/memmon ' /proc/"$pid"/mountinfo)" = "$mounts" ] || fail 'a reload mounted it once more'
done

[ "$(memmon_pid)" = "$pid" ] || fail 'memmon was restarted'
systemctl stop memmon.service
! test -e /run/memmon || fail "left: $(find /run/memmon | tr '\n' ' ')"
memmon_starts
memmon status || fail 'no status after the next start'
