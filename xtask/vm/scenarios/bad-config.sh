# With an invalid configuration memmon exits with code 2, logs what is wrong, and is not restarted.
systemctl stop memmon.service
mark
cp $SHIPPED $CONFIG
echo 'no_such_key = 1' >>$CONFIG
! systemctl start memmon.service 2>/dev/null || fail 'it started'
is memmon.service ExecMainStatus 2 || fail "it ended with $(property memmon.service ExecMainStatus)"
sleep 3
is memmon.service ActiveState failed || fail "it is $(property memmon.service ActiveState): started again"
is memmon.service NRestarts 0 || fail 'it was restarted'
must_say 'no_such_key'
memmon_runs_with
