# As %systemd_post has it: enabled where the distribution's presets say so, and never started unasked.
if [ "$1" -eq 1 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload preset memmon.service >/dev/null 2>&1 || :
    echo "memmon is not started: it would terminate at once what is over the limits."
    echo "Whom that would be: memmon check.  To start it: systemctl enable --now memmon"
fi
