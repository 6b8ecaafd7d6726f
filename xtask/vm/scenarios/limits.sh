# The unit's limits on CPU and memory are in force, and memmon still terminates processes within them.
of_memmon=/sys/fs/cgroup/system.slice/memmon.service
memmon_runs_with
# On an emulated processor a drop-in raised the quota for the start; from here on the shipped quota applies.
quota=$(sed -n 's/^CPUQuota=//p' "$(property memmon.service FragmentPath)")
systemctl set-property --runtime memmon.service CPUQuota="$quota"
read -r share period <$of_memmon/cpu.max
[ "$share" != max ] && [ $((share * 10)) = "$period" ] || fail "cpu.max is $share of $period"
# Without it memmon would wait behind every busy service: its nice value counts in its own cgroup only.
[ "$(cat $of_memmon/cpu.weight)" = 10000 ] || fail "cpu.weight is $(cat $of_memmon/cpu.weight)"
[ "$(cat $of_memmon/memory.max)" = 104857600 ] || fail "memory.max is $(cat $of_memmon/memory.max)"
hog cramped uid 1000 anon 70M hold
died cramped SIGTERM
must_say 'Terminated: PID=[0-9]+, Name=hog, User=alice'
# The unit's LimitNICE=, LimitRTPRIO= and LimitMEMLOCK= allow all that an enforcing memmon asks for.
! memmon status --json | grep -E 'realtime priority|priority of other|cannot be locked' || fail 'a limit of the unit is too low'
grep -q '^VmLck:.* [1-9]' /proc/"$(memmon_pid)"/status || fail 'its memory is not locked'
# Field 19 of proc_pid_stat(5). The text after the name begins with field 3.
nice=$(sed 's/.*) //' /proc/"$(memmon_pid)"/stat | cut -d ' ' -f 17)
[ "$nice" = -20 ] || fail "its nice value is $nice"
throttled=$(sed -n 's/^nr_throttled //p' $of_memmon/cpu.stat)
memory=$(($(cat $of_memmon/memory.current) / 1024))
[ $((memory)) -lt $((100 * 1024)) ] || fail "memmon uses $memory kB"
grep -q '^oom_kill 0$' $of_memmon/memory.events || fail 'a process of the unit was killed at its memory limit'
grep -q '^max 0$' $of_memmon/memory.events || note "memmon reached MemoryMax: $(tr '\n' ' ' <$of_memmon/memory.events)"
note "throttled in $throttled periods, memory.current $memory kB"
rm -r /run/systemd/system.control/memmon.service.d
systemctl daemon-reload
