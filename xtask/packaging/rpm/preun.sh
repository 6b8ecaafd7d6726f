# The same as %systemd_preun: on removal, but not on an upgrade, the unit is stopped and disabled.
if [ "$1" -eq 0 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload disable --now memmon.service >/dev/null 2>&1 || :
fi
