# The same as %systemd_post: the unit is enabled if the distribution's presets enable it, and it is not started.
if [ "$1" -eq 1 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload preset memmon.service >/dev/null 2>&1 || :
    echo "memmon is not started: it would terminate processes over the limits at once."
    echo "To list those processes: memmon check.  To start memmon: systemctl enable --now memmon"
fi
