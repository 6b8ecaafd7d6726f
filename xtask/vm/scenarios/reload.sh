# A reload applies a new limit without a restart; an invalid file changes nothing, and memmon logs what is wrong.
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

# The commands that README.md shows for the service: the test of README.md expects these lines here.
mark
systemctl reload memmon
must_say 'Configuration reloaded'
systemctl status memmon | grep 'active (running)' || fail 'systemctl status does not show it running'
journalctl -u memmon -n 50 | grep 'Configuration reloaded' || fail 'the last lines of the journal do not have it'
(timeout 3 journalctl -u memmon -f || true) | grep memmon || fail 'journalctl -f shows nothing'
memmon check || fail 'memmon check rejects the configuration in force'
(memmon doctor || true) | grep ebpf || fail 'memmon doctor does not show the eBPF source'
bpftool map dump pinned /sys/fs/bpf/memmon/processes | grep -c '"key"' || fail 'the map shows no process'
