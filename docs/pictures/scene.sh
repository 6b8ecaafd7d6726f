# The scene of README.md's pictures: memmon in dry run beside a few processes of one user, in mounts of their own.
# Run by `cargo xtask picture`: $MEMMON and $HOG are the programs, and $OUT is where the screens go, with their colours.
set -eu

mount -t tmpfs none /run
mount -t tmpfs none /var/log
mount -t bpf none /sys/fs/bpf
scene=$(mktemp -d)
cat >"$scene/config.toml" <<CONFIG
[thresholds]
ram_gb_threshold = 0.2
check_interval = 5
[whitelist]
names = ["postgres"]
[scope]
uids = ["47001"]
[settings]
log_file = ""
enable_syslog = false
[log]
command_lines = false
CONFIG
export LC_ALL=C.UTF-8 TERM=xterm-256color
tmux() { command tmux -S "$scene/tmux" -f /dev/null "$@"; }
trap 'tmux kill-server 2>/dev/null || true; rm -rf "$scene"' EXIT
# Hogs live while somebody holds their standard input.
mkfifo "$scene/hold"
exec 3<>"$scene/hold"
hog() { "$HOG" uid 47001 "$@" hold <&3 >/dev/null & }

tmux new-session -d -s run -x 150 -y 9 "cd '$scene'; '$MEMMON' run --dry-run --config config.toml; cat"
sleep 4
hog rename postgres anon 240M
hog rename jupyter anon 90M
hog rename chrome anon 60M
hog rename train.py anon 60M grow 200M 7M/s
tmux new-session -d -s top -x 100 -y 14 "'$MEMMON' top --interval 0.5"
tmux set-option -g status off
sleep 2
tmux send-keys -t top /
tmux send-keys -t top -l 47001
tmux send-keys -t top Enter
# The growth rates cover ten seconds.
sleep 9
tmux capture-pane -p -e -t top >"$OUT/top.ansi"
sleep 12
tmux capture-pane -p -e -t run >"$OUT/run.ansi"
