# A process that takes all memory as fast as it can: memmon is there before the kernel's OOM killer. Without memmon it is
# the OOM killer's, so the race is one.
grower() {
    systemd-run --quiet --unit="$1" --uid=1000 --property=RemainAfterExit=yes \
        perl -e 'my @kept; push @kept, "x" x 1048576 while 1'
}
kernel_killed() { dmesg | grep -c 'Out of memory: Killed process' || true; }

systemctl stop memmon.service
before=$(kernel_killed)
grower lost
died lost oom-kill
[ "$(kernel_killed)" -gt "$before" ] || fail 'the kernel did not kill'
hog_ends lost

memmon_runs_with
before=$(kernel_killed)
grower won
died won SIGTERM
[ "$(kernel_killed)" = "$before" ] || fail 'the kernel killed, too'
must_say 'Killing process: PID=[0-9]+, Name=perl, User=alice'
