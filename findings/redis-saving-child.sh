#!/usr/bin/env bash
# Redis 7.0.15 (Debian 12): it saves its keys from a forked child, which SIGTERM does not end: the child notes the signal and
# goes on. If it gets SIGKILL, the server refuses every write from then on, until a later save has succeeded.
. "$(dirname "$0")/lib.sh"
unpack redis-server=5:7.0.15-1~deb12u10 redis-tools=5:7.0.15-1~deb12u10 \
    libjemalloc2 liblzf1 liblua5.1-0 lua-cjson lua-bitop libhiredis0.14 libatomic1

mkdir "$folder/data"
# A save takes a second for each key.
"$folder/root/usr/bin/redis-server" --port 0 --unixsocket "$folder/socket" --dir "$folder/data" --save 3600 1000 \
    --rdb-key-save-delay 1000000 --logfile "$folder/log" &
redis=$!
started+=("$redis")
client() { "$folder/root/usr/bin/redis-cli" -s "$folder/socket" "$@"; }
sleep 2
for number in 1 2 3 4 5 6 7 8 9; do client set "key$number" value >/dev/null; done
expect 'it saves in the background' 'Background saving started' "$(client bgsave)"
sleep 0.5
child=$(ps -o pid= --ppid "$redis" | tr -d ' ')
kill "$child"
sleep 2
expect 'the child notes SIGTERM' "^$child:signal-handler .* Received SIGTERM" "$(cat "$folder/log")"
expect 'the child goes on' "^$child\$" "$(ps -o pid= -p "$child" | tr -d ' ')"
expect 'the server takes a key meanwhile' '^OK$' "$(client set another value)"
kill -KILL "$child"
sleep 1
expect 'the log names the signal' 'Background saving terminated by signal 9' "$(cat "$folder/log")"
expect 'the server refuses to write' '^MISCONF' "$(client set another value)"
expect 'the server answers reads' '^value$' "$(client get key1)"
