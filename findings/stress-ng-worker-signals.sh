#!/usr/bin/env bash
# stress-ng 0.15.06 (Debian 12): a SIGTERM to one worker ends the whole run early with exit code 0 and the words
# "successful run completed"; a SIGKILL to one is taken for the kernel's OOM killer, and the worker is restarted.
. "$(dirname "$0")/lib.sh"
unpack stress-ng=0.15.06-2 libegl1 libgbm1 libgles2 libipsec-mb1 libjpeg62-turbo libjudydebian1 libsctp1 libbsd0 \
    libglvnd0 libdrm2 libwayland-server0 libexpat1 libxcb-randr0 libxcb1 libxau6 libxdmcp6 libx11-xcb1 libx11-6

# signalled SIGNAL: runs one vm stressor, sends the signal to the process that holds the memory; its output is in $out.
signalled() {
    "$folder/root/usr/bin/stress-ng" --vm 1 --vm-bytes 32M --timeout 8s --temp-path "$folder" -v >"$folder/out" 2>&1 &
    local run=$! manager worker begun=$SECONDS
    started+=("$run")
    sleep 2
    manager=$(ps -o pid= --ppid "$run" | tr -d ' ')
    worker=$(ps -o pid= --ppid "$manager" | tr -d ' ')
    kill "-$1" "$worker"
    code=0
    wait "$run" || code=$?
    lasted=$((SECONDS - begun))
    out=$(cat "$folder/out"; echo "exit code $code after $lasted s")
}

signalled TERM
expect 'SIGTERM to a worker: the run is called successful' 'successful run completed' "$out"
expect 'SIGTERM to a worker: exit code 0, well before the 8 s' 'exit code 0 after [0-5] s' "$out"
signalled KILL
expect 'SIGKILL to a worker: taken for the OOM killer' 'assuming killed by OOM killer, restarting again' "$out"
expect 'SIGKILL to a worker: the run lasts as if nothing had happened' 'exit code 0 after ([89]|1[0-9]) s' "$out"
