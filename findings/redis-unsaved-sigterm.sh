#!/usr/bin/env bash
# Redis 7.0.15 (Debian 12): SIGTERM makes it save its keys first. If that fails, here because its folder is gone, it does not
# exit: it logs that, keeps its memory and goes on serving, and a second SIGTERM changes nothing.
. "$(dirname "$0")/lib.sh"
unpack redis-server=5:7.0.15-1~deb12u10 redis-tools=5:7.0.15-1~deb12u10 \
    libjemalloc2 liblzf1 liblua5.1-0 lua-cjson lua-bitop libhiredis0.14 libatomic1

mkdir "$folder/data"
"$folder/root/usr/bin/redis-server" --port 0 --unixsocket "$folder/socket" --dir "$folder/data" --save 3600 1 \
    --logfile "$folder/log" &
redis=$!
client() { "$folder/root/usr/bin/redis-cli" -s "$folder/socket" "$@"; }
cleanup_redis() { kill -KILL "$redis" 2>/dev/null || true; }
trap 'cleanup_redis; cleanup' EXIT
sleep 2
expect 'it takes a key' '^OK$' "$(client set key value)"
rmdir "$folder/data"
for number in first second; do
    kill "$redis"
    sleep 2
    expect "after the $number SIGTERM it runs" "^$redis\$" "$(ps -o pid= -p "$redis" | tr -d ' ')"
done
expect 'it logs why' "Error trying to save the DB, can't exit" "$(cat "$folder/log")"
expect 'it goes on serving' '^value$' "$(client get key)"
