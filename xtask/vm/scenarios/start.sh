# The shipped unit becomes active when memmon reports that it is ready, and memmon watches from inside the kernel.
memmon_starts
is memmon.service Type notify || fail 'the unit is not Type=notify'
must_say 'memmon 2.* started. .*Source: ebpf'
must_say 'System Memory: [0-9.]+% used \([0-9.]+GB / [0-9.]+GB\)'
must_say 'Scan complete. Scanned: [0-9]+, Killed: 0'
test -e $PIN/processes || fail "no pinned map: $(ls -R $PIN 2>&1 | tr '\n' ' ')"
note "$(said 'started' | head -n 1)"
said Degraded: | while read -r line; do note "$line"; done || true
# memmon logs what the kernel lacks, and nothing that the kernel has.
case $(uname -r) in
5.10.*) must_say 'Degraded: the kernel has no process_mrelease: boot Linux 5.15 or later' ;;
*) must_not_say process_mrelease ;;
esac
# Two gears where rss_stat fires once per page, which is since 6.2.
case $(uname -r) in
5.* | 6.[01].*) must_say 'started. .*one gear' ;;
*) must_say 'started. .*two gears' ;;
esac
# The first scan compares the map with /proc: the map has every process, PID 1 included.
must_not_say 'Repaired inconsistent kernel map'
bpftool map dump pinned $PIN/processes | grep -q '"key": 1,' || fail 'PID 1 is not in the map'
