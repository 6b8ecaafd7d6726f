# A victim that ignores SIGTERM has its grace, unless the machine runs out of memory meanwhile: then SIGKILL comes early.
available() { awk '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { print int(100 * $2 / total) }' /proc/meminfo; }
# The victim's 70 MB leave this reserve alone, the 200 MB of somebody else do not.
reserve=$(($(available) - 27))
[ $reserve -le 50 ] || reserve=50 # the most that can be asked for
memmon_runs_with 'check_interval = 1' 'grace = 600' "reserve_percent = $reserve"
hog deaf uid 1000 ignore-term anon 70M hold
must_say 'Killing process: PID=[0-9]+, Name=hog, User=alice'
sleep 6
lives deaf
[ "$(available)" -gt $reserve ] || fail "only $(available) % are available: the reserve of $reserve % was none"
ARGV0=sshd hog ballast uid 1000 anon 200M hold
died deaf SIGKILL
must_say 'Still running [0-9.a-z ]+ after SIGTERM and the machine is nearly out of memory, sending SIGKILL: PID=[0-9]+, Name=hog'
must_say 'Killed: PID=[0-9]+, Name=hog, User=alice'
lives ballast
hog_ends ballast
