# After a crash systemd restarts memmon, and what the crash left behind does not prevent the start.
memmon_runs_with 'check_interval = 1'
pid=$(memmon_pid)
mark
kill -KILL "$pid"
other() { [ "$(memmon_pid)" != "$pid" ] && [ "$(memmon_pid)" != 0 ] && is memmon.service ActiveState active; }
within $PATIENCE other || fail "systemd did not restart it: $(property memmon.service ActiveState)/$(property memmon.service SubState)"
must_say 'started. .*Source: ebpf'
test -e $PIN/processes || fail 'the pin is gone'
# The pinned map is the new one: a new process is in it.
hog fresh uid 1000 anon 10M hold
hog_holds fresh
bpftool map dump pinned $PIN/processes | grep -q "\"key\": $(property fresh MainPID)," || fail 'the pinned map is not the new one'
hog_ends fresh
[ "$(bpftool prog show | grep -c 'name rss_stat')" = 1 ] || fail 'programs of the crashed daemon are still attached'
