# The same as %systemd_postun_with_restart: after an upgrade, memmon is restarted if it was running.
if [ "$1" -ge 1 ] && [ -x /usr/bin/systemctl ]; then
    systemctl daemon-reload >/dev/null 2>&1 || :
    systemctl try-restart memmon.service >/dev/null 2>&1 || :
fi
