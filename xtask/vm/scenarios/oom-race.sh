# A process allocates all memory as fast as it can: memmon terminates it before the kernel's OOM killer does. If the limits
# are out of reach, the OOM killer kills it, which shows that the race can be lost, and memmon logs that.
kernel_killed() { dmesg | grep -c 'Out of memory: Killed process' || true; }

memmon_runs_with 'ram_percent_threshold = 100.0' 'ram_gb_threshold = 64.0'
before=$(kernel_killed)
load_hog lost
died lost oom-kill
[ "$(kernel_killed)" -gt "$before" ] || fail 'the OOM killer did not kill it'
must_say "Killed by the kernel's OOM killer: PID=[0-9]+, Name=perl, Peak=0\.[2-5][0-9]GB"
must_not_say 'Killing process'
hog_ends lost

memmon_runs_with
before=$(kernel_killed)
load_hog won
within $PATIENCE ended won || fail 'the grower is still there'
# Above the hard ceiling, or if almost no memory is left, SIGKILL follows SIGTERM at once.
case $(how_ended won) in
SIGTERM | SIGKILL) ;;
*) fail "the grower ended by $(how_ended won)" ;;
esac
[ "$(kernel_killed)" = "$before" ] || fail 'the OOM killer killed a process as well'
must_say 'Killing process: PID=[0-9]+, Name=perl, User=alice'
must_not_say "Killed by the kernel's OOM killer"
hog_ends won
