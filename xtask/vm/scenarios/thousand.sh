# One scan reads a thousand processes.
memmon_runs_with 'check_interval = 5'
# The processes are forks that wait for input: an emulated processor would take minutes to start a thousand programs.
systemd-run --quiet --unit=crowd --property=TasksMax=infinity \
    bash -c 'exec 3< <(exec sleep infinity); for ((i = 0; i < 1000; i++)); do (read -r -u 3) & done; wait'
crowd() { [ "$(cat /sys/fs/cgroup/system.slice/crowd.service/pids.current)" -ge 1001 ]; }
within $PATIENCE crowd || fail "only $(cat /sys/fs/cgroup/system.slice/crowd.service/pids.current) processes"
mark
within $PATIENCE scanned_since 2 || fail 'no two scans'
scanned=$(said 'Scan complete' | tail -n 1 | sed 's/.*Scanned: \([0-9]*\),.*/\1/')
# Processes with memory of their own, which excludes kernel threads.
there=$(grep -l . /proc/[0-9]*/cmdline 2>/dev/null | wc -l)
[ "$scanned" -ge 1001 ] || fail "only $scanned were scanned, of $there"
[ $((scanned - there)) -le 25 ] || fail "$scanned were scanned, of only $there"
note "$scanned scanned, $there there"
must_not_say 'Repaired inconsistent kernel map'
systemctl stop crowd
