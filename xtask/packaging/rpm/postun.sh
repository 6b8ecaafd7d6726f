# The consent to enforce ends with the package: another installation asks again.
if [ "$1" -eq 0 ]; then
    rm -f /etc/memmon/enabled
    # Unless an administrator, or another package, has files there.
    rmdir /etc/memmon/conf.d /etc/memmon 2>/dev/null || :
fi
# As %systemd_postun_with_restart has it: after an upgrade the new one runs, if the old one did.
if [ "$1" -ge 1 ] && [ -x /usr/bin/systemctl ]; then
    systemctl daemon-reload >/dev/null 2>&1 || :
    systemctl try-restart memmon.service >/dev/null 2>&1 || :
fi
