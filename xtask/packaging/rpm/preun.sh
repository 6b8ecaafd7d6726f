# As %systemd_preun has it: gone for good, not upgraded.
if [ "$1" -eq 0 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload disable --now memmon.service >/dev/null 2>&1 || :
fi
