# action = "throttle": the cgroup of a unit over its limit is slowed down and nothing in it ends; a unit beside it is untouched. The
# former memory.high comes back when the unit has calmed down, after a crash of memmon, and at its end.
build=/sys/fs/cgroup/system.slice/build.service
beside=/sys/fs/cgroup/system.slice/beside.service
LIMIT=104857600
high() { cat $1/memory.high; }
has_high() { [ "$(high $1)" = "$2" ]; }
slowed() { sed -n 's/^high //p' $1/memory.events; }
is_slowed_more() { [ "$(slowed $1)" -gt "$2" ]; }
rules() {
    configure 'ram_percent_threshold = 100.0' 'ram_gb_threshold = 64.0' 'check_interval = 2'
    printf '%s\n' '' '[[rule]]' 'name = "builds"' 'units = ["build.service"]' 'per = "unit"' 'gb = 0.09765625' \
        'action = "throttle"' 'hard_ceiling = 0' '[[rule]]' 'name = "users"' 'uids = ["1000"]' 'per = "unit"' \
        'gb = 0.09765625' 'action = "throttle"' >>$CONFIG
}

# The shipped unit may not write to cgroups: memmon names the lines of the drop-in and does not start.
rules
memmon check $CONFIG | grep 'rule.action cannot be used: .*ProtectControlGroups=no, ReadWritePaths=/sys/fs/cgroup' ||
    fail "memmon check names no drop-in: $(memmon check $CONFIG | tail -n 3)"
mark
systemctl start memmon.service && fail 'memmon starts and could slow nothing down'
must_say 'cannot enforce this configuration here: .*read-only for memmon .*ProtectControlGroups=no'
[ "$(property memmon.service ExecMainStatus)" = 4 ] || fail "exit code $(property memmon.service ExecMainStatus)"
systemctl reset-failed memmon.service
mkdir -p /run/systemd/system/memmon.service.d
printf '[Service]\nProtectControlGroups=no\nReadWritePaths=/sys/fs/cgroup\n' >/run/systemd/system/memmon.service.d/throttle.conf
systemctl daemon-reload
memmon_starts
memmon check $CONFIG | grep 'rule.action cannot' && fail 'memmon check names a drop-in that is there'

# Two units with the same work. One has a rule.
work='fork grow 150M 15M/s hold end anon 10M hold'
hog beside $work
hog build $work
must_say 'Over the limit together: unit build.service, .*Its cgroup is to be slowed down'
must_say 'Slowing down: unit build.service, .*Rule=builds, Cgroup=/system.slice/build.service, memory.high=100.0MB, before max'
has_high $build $LIMIT || fail "memory.high is $(high $build)"
times=$(slowed $build)
within $PATIENCE is_slowed_more $build "$times" || fail "the kernel does not slow it down: $(cat $build/memory.events)"
within $PATIENCE grep_journal beside 'begin hold' || fail 'the unit beside does not go on'
has_high $beside max || fail "memory.high of the other unit is $(high $beside)"
[ "$(slowed $beside)" = 0 ] || fail 'the other unit was slowed down'
memmon status | grep -A1 'Slowed down by a rule' | grep 'builds: unit build.service: 100.0MB, before max' || fail "status: $(memmon status)"
memmon explain --unit build.service | tr -s '\n ' '  ' | grep 'its cgroup is slowed down' || fail "explain: $(memmon explain --unit build.service)"
note "slowed down $(slowed $build) times, memory.current $(($(cat $build/memory.current) >> 20)) MB, beside $(($(cat $beside/memory.current) >> 20)) MB"

# Another one, as systemd with a changed unit, writes another value: it is set again, and comes back later.
mark
systemctl set-property --runtime build.service MemoryHigh=500M
must_say 'Slowing down: unit build.service, .*before 0.49GB, Times=2'
has_high $build $LIMIT || fail "memory.high is $(high $build)"

# memmon is killed. The next one goes on where it was, and sets the value of before when the unit has calmed down.
mark
kill -9 "$(memmon_pid)"
must_say 'memmon .* started'
within $PATIENCE scanned_since 2 || fail 'no two scans'
has_high $build $LIMIT || fail "after a crash memory.high is $(high $build)"
must_not_say 'Slowed down no longer'
lives build
child=$(pgrep -P "$(property build.service MainPID)" -x hog) || fail 'the hog has no child'
mark
kill -9 "$child"
must_say 'Slowed down no longer: unit build.service, .*memory.high=0.49GB again: it has stayed well below the limit'
has_high $build 524288000 || fail "memory.high is $(high $build)"
lives build
hog_ends build
hog_ends beside

# A process of another user in the cgroup would be slowed down as well, so that nothing is set; above the ceiling the hog ends.
mark
hog mixed uid 1000 anon 130M hold
must_say 'Not slowed down: unit mixed.service, .*is in the cgroup and does not count in the sum'
has_high /sys/fs/cgroup/system.slice/mixed.service max || fail 'memory.high was set all the same'
lives mixed
hog_ends mixed
hog outgrown uid 1000 anon 250M hold
died outgrown SIGTERM
must_say 'Terminated: PID=[0-9]+, Name=hog, User=alice, .*Sum=unit outgrown.service'
hog_ends outgrown

# The end of memmon.
hog build $work
must_say 'Slowing down: unit build.service'
mark
systemctl stop memmon.service
must_say 'Slowed down no longer: unit build.service, .*memory.high=max again: memmon ends'
has_high $build max || fail "memory.high stays at $(high $build)"
lives build
hog_ends build
rm -r /run/systemd/system/memmon.service.d/throttle.conf
systemctl daemon-reload
