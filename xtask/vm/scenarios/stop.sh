# After a stop nothing is left: no pin, no BPF program, no lock, no failure.
memmon_runs_with
[ "$(bpftool prog show | grep -c 'name rss_stat')" = 1 ] || fail 'no program while it runs'
mark
systemctl stop memmon.service
must_say 'memmon stops: SIGTERM'
is memmon.service Result success || fail "the unit's result is $(property memmon.service Result)"
! test -e $PIN || fail "left: $(find $PIN | tr '\n' ' ')"
[ "$(bpftool prog show | grep -c 'name rss_stat' || true)" = 0 ] || fail 'a program is still there'
! test -e /run/memmon || fail "left: $(find /run/memmon | tr '\n' ' ')"
