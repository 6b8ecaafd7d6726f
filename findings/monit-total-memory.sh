#!/usr/bin/env bash
# monit 5.33.0 (Debian 12): the "memory total" of a process with children adds up their resident sets, so a segment of 64
# MiB that five processes share counts five times: more than 300 MB for a tree that holds about 80.
. "$(dirname "$0")/lib.sh"
unpack monit=1:5.33.0-1

cat >"$folder/tree.py" <<'PY'
import mmap, os, sys, time
segment = mmap.mmap(-1, 64 << 20)
segment.write(b"x" * (64 << 20))
for _ in range(4):
    if os.fork() == 0:
        sum(segment[at] for at in range(0, 64 << 20, 4096))
        time.sleep(20)
        os._exit(0)
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
time.sleep(20)
PY
cat >"$folder/monitrc" <<EOF
set daemon 2
set httpd unixsocket $folder/monit.sock allow operator:example
set pidfile $folder/monit.pid
set statefile $folder/monit.state
set idfile $folder/monit.id
set log $folder/monit.log
check process tree pidfile $folder/tree.pid
EOF
chmod 600 "$folder/monitrc"
python3 "$folder/tree.py" "$folder/tree.pid" &
tree=$!
started+=("$tree")
sleep 3
"$folder/root/usr/bin/monit" -I -c "$folder/monitrc" >/dev/null 2>&1 &
started+=($!)
sleep 7
status=$("$folder/root/usr/bin/monit" -c "$folder/monitrc" status | grep -E 'children|memory')
children=$(ps -o pid= --ppid "$tree")
pss=$(for pid in $tree $children; do grep '^Pss:' "/proc/$pid/smaps_rollup"; done | awk '{ sum += $2 } END { print int(sum / 1024) }')
# shellcheck disable=SC2206
started+=($children)
expect 'the segment is resident in each of five processes' 'children +4' "$status"
expect 'monit adds it up: more than 300 MB' 'memory total .*\[(3[0-9][0-9]|4[0-9][0-9])\.[0-9] MB\]' "$status"
expect "the tree holds less than 110 MiB by PSS ($pss MiB)" '^([0-9]{2}|10[0-9])$' "$pss"
