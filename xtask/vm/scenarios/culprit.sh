# A database that works while others fill the machine: it is never the culprit, and neither is the session beside it.
configure 'ram_percent_threshold = 100.0' 'ram_gb_threshold = 64.0' 'check_interval = 2'
echo '[machine]' >>$CONFIG
memmon_starts
before=$(kernel_killed)

# begin_load: the database works on what it holds, and grows meanwhile.
begin_load() {
    mark
    hog database uid 33 anon 150M grow 60M 1M/s rewrite hold
    within $PATIENCE grep_journal database 'begin grow' || fail 'the database does not work'
    within $PATIENCE scanned_since 2 || fail 'no two scans'
}
end_load() {
    lives database
    must_not_say 'Killing process: PID=[0-9]+, Name=[^,]*, User=(root|www-data|33)'
    [ "$(kernel_killed)" = "$before" ] || fail "the kernel's OOM killer killed a process: $(dmesg | grep 'Killed process' | tail -n 1)"
    note "$1: $(said 'Killing process' | wc -l) ended, $(available) MB are available"
    systemctl stop "$@" 2>/dev/null || true
    hog_ends database
    must_say 'Machine has enough memory again'
}
# A hog of alice is ended, and with that there is enough.
relieved() { said 'Terminated: PID=[0-9]+, Name=hog, User=alice|Killed: PID=[0-9]+, Name=hog, User=alice' && [ "$(available)" -gt 60 ]; }

begin_load
load_workers
must_say 'Machine short of memory, ending the culprit: PID=[0-9]+, Name=hog, User=alice'
within $PATIENCE relieved || fail 'no relief'
end_load workers

begin_load
load_storm
must_say 'Machine short of memory, ending the culprit: PID=[0-9]+, Name=hog, User=alice'
within $PATIENCE relieved || fail 'no relief'
end_load storm

begin_load
load_leak
must_say 'Machine short of memory, ending the culprit: PID=[0-9]+, Name=hog, User=alice'
died leak SIGTERM
lives ballast
end_load leak ballast

# A unit with a limit of its own: the kernel's OOM killer ends what is in there, and the machine has enough.
begin_load
load_limited
within $PATIENCE ended limited || fail 'the limited hog lives'
before=$((before + 1))
lives database
must_not_say 'Killing process'
hog_ends limited
hog_ends database
systemctl stop memmon.service
