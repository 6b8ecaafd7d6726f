# A reload puts a new limit into force without a restart; a wrong file changes nothing and is told.
memmon_runs_with 'check_interval = 1' 'ram_percent_threshold = 90.0'
pid=$(memmon_pid)
hog between uid 1000 anon 70M hold
hog_holds between
echo 'ram_percent_treshold = 1.0' >>$CONFIG
mark
systemctl reload memmon.service
must_say 'Configuration not reloaded, the old one stays in force: .*ram_percent_treshold'
mark
within $PATIENCE scanned_since 3 || fail 'no three scans after the refused reload'
lives between
configure 'check_interval = 1'
mark
systemctl reload memmon.service
must_say 'Configuration reloaded'
died between SIGTERM
[ "$(memmon_pid)" = "$pid" ] || fail 'memmon was restarted'
