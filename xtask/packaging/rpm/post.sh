# The same as %systemd_post: the unit is enabled if the distribution's presets enable it, and it is not started.
if [ "$1" -eq 1 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload preset memmon.service >/dev/null 2>&1 || :
    echo "memmon is not started. To start it: systemctl enable --now memmon"
    echo "It only logs which processes it would terminate. To let it terminate them: memmon enable"
fi
