# A user's process over the shipped limits is terminated, and v1's lines are logged. (It stays below twice the limit, above
# which its grace period would end at once.)
memmon_runs_with
hog victim uid 1000 anon 70M hold
pid=$(property victim MainPID)
died victim SIGTERM
must_say 'Killing process: PID=[0-9]+, Name=hog, User=alice, RAM=0\.0[4-7]GB \([0-9.]+%\)'
must_say 'Terminated: PID=[0-9]+, Name=hog, User=alice'
# An administrator finds the event by its message id and the pid, with the explanation from the catalog.
killing=840b317dabfb4557b7133b870608fdb2
filed() { journalctl --quiet --no-pager "$@" MESSAGE_ID=$killing MEMMON_PID="$pid"; }
[ "$(filed --output=cat | grep -c "^Killing process: PID=$pid, ")" = 1 ] || fail "by id: $(filed --output=cat)"
filed --catalog | grep -q 'A process exceeds its memory limit and is terminated' || fail "no catalog: $(filed --catalog)"
# A process that ignores SIGTERM is sent SIGKILL after the grace period.
hog stubborn uid 1000 ignore-term anon 70M hold
died stubborn SIGKILL
must_say 'Still running .* after SIGTERM, sending SIGKILL: PID=[0-9]+, Name=hog'
must_say 'Killed: PID=[0-9]+, Name=hog'
grep -Eq '^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} - WARNING - Killing process: PID=' /var/log/memory_monitor.log ||
    fail 'the log file has no line in v1'"'"'s format'
