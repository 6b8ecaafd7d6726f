# A thousand processes: one scan has them all.
memmon_runs_with 'check_interval = 5'
systemd-run --quiet --unit=crowd --property=TasksMax=infinity \
    bash -c 'for i in $(seq 1000); do sleep infinity & done; wait'
crowd() { [ "$(cat /sys/fs/cgroup/system.slice/crowd.service/pids.current)" -ge 1001 ]; }
within $PATIENCE crowd || fail "only $(cat /sys/fs/cgroup/system.slice/crowd.service/pids.current) processes"
mark
within $PATIENCE scanned_since 2 || fail 'no two scans'
scanned=$(said 'Scan complete' | tail -n 1 | sed 's/.*Scanned: \([0-9]*\),.*/\1/')
# Processes with memory of their own; kernel threads have none.
there=$(grep -l . /proc/[0-9]*/cmdline 2>/dev/null | wc -l)
[ "$scanned" -ge 1001 ] || fail "only $scanned were scanned, of $there"
[ $((scanned - there)) -le 25 ] || fail "$scanned were scanned, of only $there"
note "$scanned scanned, $there there"
must_not_say 'Kernel map had defects'
systemctl stop crowd
