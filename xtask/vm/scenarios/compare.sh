# One guard alone against loads that fill a machine of 1 GB: a note for each run. A mistake of the guard is a result; only a
# guard that does not start is a failure. (For `cargo xtask vm-compare`.)
. ./settings
dmesg --console-off
echo -1000 >/proc/$$/oom_score_adj
# Neither these scripts nor their heartbeat are part of the machine.
systemctl set-property --runtime memmon-vm.service ManagedOOMPreference=omit
if [ -e /dev/vdb ]; then
    mkswap /dev/vdb
    swapon /dev/vdb
fi
case $GUARD in
none) guard= ;;
earlyoom) guard=earlyoom.service ;;
systemd-oomd)
    guard=systemd-oomd.service
    for slice in system:ManagedOOMMemoryPressure=kill -:ManagedOOMSwap=kill; do
        systemctl set-property --runtime "${slice%%:*}.slice" "${slice#*:}"
    done
    ;;
memmon)
    guard=memmon.service
    configure 'ram_percent_threshold = 100.0' 'ram_gb_threshold = 64.0' 'check_interval = 5'
    echo '[machine]' >>$CONFIG
    ;;
esac
total=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
services="systemd-journald systemd-udevd dbus ${guard%.service}"
units='database session hog workers storm ballast leak reader1 reader2 reader3 writer limited'

# heartbeat FILE: beats ten times a second and, at its end, writes the worst delay, how long less than a twentieth of memory was available,
# the least that was available and what is now, all in microseconds and KB.
heartbeat() {
    local beat=${EPOCHREALTIME/./} now key value worst=0 low=0 least=999999999
    trap 'echo "$worst $low $least $value" >"$1"; exit' TERM
    exec 8<> <(:)
    while :; do
        read -rt 0.1 -u 8 || true
        now=${EPOCHREALTIME/./}
        while read -r key value _; do [ "$key" != MemAvailable: ] || break; done </proc/meminfo
        [ $((now - beat - 100000)) -le $worst ] || worst=$((now - beat - 100000))
        [ $((value / 1024)) -ge $((total / 20)) ] || low=$((low + now - beat))
        [ "$value" -ge $least ] || least=$value
        beat=$now
    done
}
load_cache() {
    truncate -s 3G /var/tmp/large
    for reader in 1 2 3; do
        systemd-run --quiet --unit="reader$reader" --uid=1000 --property=RemainAfterExit=yes \
            timeout 15 cat /var/tmp/large /var/tmp/large
    done
}
# A file of the size that /dev/shm may have: half of all memory. Its writer stays small.
load_tmpfs() {
    systemd-run --quiet --unit=writer --uid=1000 --property=RemainAfterExit=yes \
        bash -c 'dd if=/dev/zero of=/dev/shm/filled bs=1M; sleep 1000'
}
hogs() { pgrep --count --uid 1000 --exact hog || true; }
# settled UNIT NUMBER: all have started, and each holds what it wants or has ended.
settled() {
    journalctl --unit="$1" --output=cat --quiet >/run/settled
    [ "$(grep -c 'ready uid' /run/settled)" -ge "$2" ] && [ "$(grep -c 'begin hold' /run/settled)" -ge "$(hogs)" ]
}
# quiet LOAD: it grows no more.
quiet() {
    case $1 in
    hog | leak | limited) ended "$1" ;;
    workers) settled workers 10 ;;
    storm) settled storm 60 ;;
    cache) ended reader1 && ended reader2 && ended reader3 ;;
    tmpfs) ! pgrep --exact dd ;;
    esac
}
pid() { property "$1" MainPID; }

run() { # LOAD
    local load=$1 dead= right=yes unit number=0 heart worst low least now
    local -A pids
    journalctl --rotate --quiet
    journalctl --vacuum-size=1 --quiet 2>/dev/null
    dmesg --clear
    if [ -n "$guard" ]; then
        systemctl restart "$guard"
        within $PATIENCE is "$guard" ActiveState active || fail "$guard does not run"
    fi
    hog database uid 33 anon 170M grow 30M 1M/s work
    hog session uid 34 anon 5M hold
    within $PATIENCE grep_journal database 'begin grow' || fail 'the database does not start'
    [ "$load" != tmpfs ] || load_ballast
    sleep 12 # Two scans of memmon.
    for unit in database session $services; do pids[$unit]=$(pid "$unit"); done
    heartbeat /run/heartbeat &
    heart=$!
    sleep 1
    case $load in
    hog) load_hog hog ;;
    *) "load_$load" ;;
    esac
    within 100 quiet "$load" || true
    sleep 5
    kill $heart
    wait $heart || true
    case $load in
    workers) number=$((10 - $(hogs))) ;;
    storm) number=$((60 - $(hogs))) ;;
    hog | leak | limited) ! ended "$load" || number=1 ;;
    esac
    [ $number -eq 0 ] || dead=$load:$number
    case $load in cache | tmpfs) ;; *) [ $number -gt 0 ] || right=no ;; esac
    if [ "$load" = tmpfs ] && ended writer; then dead=writer; fi
    for unit in database session $services; do
        [ "${pids[$unit]}" = "$(pid "$unit")" ] || { dead="$dead $unit" && right=no; }
    done
    case $load in leak | tmpfs) ! ended ballast || { dead="$dead ballast" && right=no; } ;; esac
    if [ "$load" = cache ]; then
        for unit in reader1 reader2 reader3; do
            [[ $(how_ended $unit) == exit* ]] || { dead="$dead $unit" && right=no; }
        done
    fi
    read -r worst low least now </run/heartbeat
    note "load=$load guard=$GUARD right=$right ended=$(echo ${dead:-nothing} | tr ' ' ,)" \
        "kernel=$(dmesg | grep -c 'Out of memory: Killed process' || true)" \
        "gap=$(tenths $worst) short=$(tenths $low) least=$((least / 1024)) available=$((now / 1024))"
    [ -z "$guard" ] || journalctl --unit="$guard" -o short-monotonic --quiet | tail -n 40
    for unit in $units; do hog_ends $unit; done
    rm -f /var/tmp/large /dev/shm/filled
    [ -z "$guard" ] || systemctl stop "$guard"
}
tenths() { echo $(($1 / 1000000)).$(($1 / 100000 % 10)); }
for load in $LOADS; do
    for number in $(seq "$RUNS"); do run "$load"; done
done
