# If the unit forbids BPF, memmon logs that, polls /proc, and still terminates; with `source = "ebpf"` it refuses to start.
drop_in=/run/systemd/system/memmon.service.d/no-bpf.conf
mkdir -p "$(dirname $drop_in)"
printf '[Service]\nSystemCallFilter=~bpf\n' >$drop_in
systemctl daemon-reload
configure 'check_interval = 1'
mark
systemctl restart memmon.service
must_say 'memmon 2.* started. .*Source: proc \(.*'
note "$(said 'started' | head -n 1)"
! test -e $PIN || fail "left by the previous memmon: $(find $PIN | tr '\n' ' ')"
hog polled uid 1000 anon 70M hold
died polled SIGTERM
must_say 'Terminated: PID=[0-9]+, Name=hog, User=alice'

configure 'source = "ebpf"'
mark
systemctl restart memmon.service && fail 'it started without the source that is configured'
must_say 'memmon: .*ebpf'
rm $drop_in
systemctl daemon-reload
configure
systemctl reset-failed memmon.service
systemctl restart memmon.service
