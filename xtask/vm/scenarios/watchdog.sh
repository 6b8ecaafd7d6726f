# systemd kills and restarts a daemon whose event loop hangs; the new one watches as before.
mkdir -p /run/systemd/system/memmon.service.d
printf '[Service]\nWatchdogSec=20\nTimeoutAbortSec=10\n' >/run/systemd/system/memmon.service.d/watchdog.conf
systemctl daemon-reload
systemctl stop memmon.service
memmon_runs_with
pid=$(memmon_pid)
mark
kill -STOP "$pid"
other() { [ "$(memmon_pid)" != "$pid" ] && [ "$(memmon_pid)" != 0 ] && is memmon.service ActiveState active; }
within $PATIENCE other || fail "systemd did not restart it: $(property memmon.service ActiveState)/$(property memmon.service SubState)"
must_say 'started. .*Source: ebpf'
test -e $PIN/processes || fail 'the pin is gone'
rm /run/systemd/system/memmon.service.d/watchdog.conf
systemctl daemon-reload
