# A process that ignores SIGTERM gets its whole grace period, unless the machine runs out of memory: then SIGKILL comes early.
available() { awk '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { print int(100 * $2 / total) }' /proc/meminfo; }
# The process's 70 MB do not reach into this reserve; the 200 MB of the second process do.
reserve=$(($(available) - 27))
[ $reserve -le 50 ] || reserve=50 # the largest valid value
memmon_runs_with 'check_interval = 1' 'grace = 600' "reserve_percent = $reserve"
hog deaf uid 1000 ignore-term anon 70M hold
must_say 'Killing process: PID=[0-9]+, Name=hog, User=alice'
sleep 6
lives deaf
[ "$(available)" -gt $reserve ] || fail "only $(available) % are available, less than the reserve of $reserve %"
ARGV0=sshd hog ballast uid 1000 anon 200M hold
died deaf SIGKILL
must_say 'Still running [0-9.a-z ]+ after SIGTERM and the machine is nearly out of memory, sending SIGKILL: PID=[0-9]+, Name=hog'
must_say 'Killed: PID=[0-9]+, Name=hog, User=alice'
lives ballast
hog_ends ballast
