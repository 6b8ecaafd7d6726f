# One guard alone against loads that fill the machine: a note for each run. A mistake of the guard is a result. A guard that does
# not start is a failure, and so is a load that does not fill the machine. (For `cargo xtask vm-compare`.)
. ./settings
dmesg --console-off
# For the hogs, those of units and those of the session's scope.
export HOG_MOST=2048M
systemctl set-environment HOG_MOST=$HOG_MOST
echo -1000 >/proc/$$/oom_score_adj
disk=/dev/vdb
if [ "$ZRAM" -gt 0 ]; then
    disk=/dev/zram0
    [ -e $disk ] || fail 'this kernel has no zram'
    echo "${ZRAM}M" >/sys/block/zram0/disksize
fi
if [ -e $disk ]; then
    mkswap $disk
    swapon $disk
fi
case $GUARD in
none) guard= ;;
earlyoom) guard=earlyoom.service ;;
systemd-oomd)
    guard=systemd-oomd.service
    for slice in system:ManagedOOMMemoryPressure=kill -:ManagedOOMSwap=kill; do
        systemctl set-property --runtime -- "${slice%%:*}.slice" "${slice#*:}"
    done
    ;;
memmon)
    guard=memmon.service
    configure 'ram_percent_threshold = 100.0' 'ram_gb_threshold = 64.0' 'check_interval = 5'
    printf '[machine]\nstop_writers = true\n' >>$CONFIG
    # Before Linux 5.14 it finds no writers without this, and says so.
    if [ "$(stat -c %a /proc/self/fdinfo)" = 500 ]; then
        mkdir -p /etc/systemd/system/memmon.service.d
        printf '[Service]\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n' >/etc/systemd/system/memmon.service.d/writers.conf
        systemctl daemon-reload
    fi
    ;;
esac
total=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
services="systemd-journald systemd-udevd dbus ${guard%.service}"
# The idle units, with the number of their processes.
declare -A idle
swap=$(awk '/^SwapTotal:/ { print int($2 / 1024) }' /proc/meminfo)
units='database session hog workers storm ballast ballast2 swapped leak reader1 reader2 reader3 writer limited session-7.scope'

# In place of the library's, which fails: a guard may end a process before the load begins, and that is a result.
hog_holds() { within $PATIENCE holds_or_ends "$1" "${2:-1}" || true; }
holds_or_ends() { hold "$1" "$2" || [ "$(members "$1")" -lt "$2" ]; }
# members UNIT: the number of its hogs that live.
members() {
    local pid
    for pid in $(cat "/sys/fs/cgroup$(property "$1" ControlGroup)/cgroup.procs"); do cat "/proc/$pid/comm"; done 2>/dev/null |
        grep -c '^hog$' || true
}
# missing: those that should live and do not.
missing() {
    for unit in "${!pids[@]}"; do [ "${pids[$unit]}" = "$(pid "$unit")" ] || echo "$unit"; done
    for unit in "${!idle[@]}"; do [ "$(members "$unit")" -ge "${idle[$unit]}" ] || echo "$unit"; done
}

# heartbeat FILE: beats ten times a second and, at its end, writes the worst delay, how long less than a twentieth of memory was available,
# the least that was available and what is now, all in microseconds and KB.
heartbeat() {
    local beat=${EPOCHREALTIME/./} now key value available=0 worst=0 low=0 least=999999999
    trap 'echo "$worst $low $least $available" >"$1"; exit' TERM
    exec 8<> <(:)
    while :; do
        read -rt 0.1 -u 8 || true
        now=${EPOCHREALTIME/./}
        while read -r key value _; do [ "$key" != MemAvailable: ] || break; done </proc/meminfo
        [ $((now - beat - 100000)) -le $worst ] || worst=$((now - beat - 100000))
        # The signal may come between two lines of the file.
        available=$value
        [ $((available / 1024)) -ge $((total / 20)) ] || low=$((low + now - beat))
        [ "$available" -ge $least ] || least=$available
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
# small-leak: a leak that the machine has no room for while it is smaller than the database.
load_small-leak() {
    hog leak uid 1000 anon "$(part 10)" grow "$(part 185)" "$(part 4)/s" hold
}
# session: in a login session an idle editor and, after a while, four programs that take all memory.
load_session() {
    setsid systemd-run --quiet --scope --unit=session-7 --slice=user-1000.slice bash -c 'echo 0 >/proc/$$/oom_score_adj; exec 3< <(exec sleep infinity)
        '"$PLACE/hog uid 1000 anon $(part 120)"' hold <&3 & echo $! >/run/editor
        sleep 15
        for i in 1 2 3 4; do '"$PLACE/hog uid 1000 anon $(part 10) grow $(part 160) $(part 4)/s"' hold <&3 & echo $! >>/run/programs; done
        wait' >/run/session 2>&1 &
    within $PATIENCE programs 4
}
# programs NUMBER: so many of them have started. programs_left: so many live.
programs() { [ "$(wc -l </run/programs)" = "$1" ]; }
programs_left() { for pid in $(cat /run/programs); do ! kill -0 "$pid" 2>/dev/null || echo "$pid"; done | wc -l; }
living() { kill -0 "$(cat "$1")" 2>/dev/null; }
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
    small-leak) ended leak ;;
    session) [ "$(grep -c 'begin hold' /run/session)" -gt "$(programs_left)" ] ;;
    # Its writer may be stopped.
    tmpfs) ! pgrep --exact --runstates R,S,D dd ;;
    esac
}
pid() { property "$1" MainPID; }
# calm: the averages of a minute no longer include the load before.
calm() { awk '/^full/ { split($3, minute, "="); exit minute[2] >= 5 }' /proc/pressure/memory; }
# systemd-oomd acts for the cgroups that it lists, and for no others.
oomd_watches() { oomctl | sed -n '/^Memory Pressure Monitored/,$p' | grep -q 'Path: /system.slice$'; }

run() { # LOAD
    local load=$1 dead= right=yes unit number=0 heart worst low least now before
    local -A pids
    idle=()
    journalctl --rotate --quiet
    journalctl --vacuum-size=1 --quiet 2>/dev/null
    dmesg --clear
    [ "$swap" = 0 ] || within $PATIENCE calm || fail "the machine does not calm down: $(cat /proc/pressure/memory)"
    if [ -n "$guard" ]; then
        systemctl restart "$guard"
        within $PATIENCE is "$guard" ActiveState active || fail "$guard does not run"
        [ "$GUARD" != systemd-oomd ] || within $PATIENCE oomd_watches || fail "systemd-oomd watches nothing: $(oomctl 2>&1)"
    fi
    for unit in $services; do pids[$unit]=$(pid "$unit"); done
    hog database uid 33 anon "$(part 170)" grow "$(part 30)" 1M/s work
    hog session uid 34 anon 5M hold
    for unit in database session; do pids[$unit]=$(pid "$unit"); done
    within $PATIENCE grep_journal database 'begin grow' || fail 'the database does not start'
    case $load in *leak | tmpfs) idle[ballast]=2 ;; esac
    [ "$load" != tmpfs ] || load_ballast
    if [ "$load" = small-leak ]; then
        load_ballast
        idle[ballast2]=1
        hog ballast2 uid 34 anon "$(part 110)" hold
        hog_holds ballast2
    fi
    # Idle processes take as much memory as there is swap.
    if [ "$swap" -gt 0 ]; then
        hog swapped uid 34 fork anon $((swap / 2))M hold end anon $((swap / 2))M hold
        idle[swapped]=2
        hog_holds swapped 2
    fi
    sleep 12 # Two scans of memmon.
    before=$([ "$load" != leak ] || unset 'idle[ballast]'; missing)
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
    small-leak) ! ended leak || number=1 ;;
    session) number=$((4 - $(programs_left))) ;;
    esac
    [ $number -eq 0 ] || dead=$load:$number
    case $load in cache | tmpfs) ;; *) [ $number -gt 0 ] || right=no ;; esac
    if [ "$load" = tmpfs ] && ended writer; then dead=writer; fi
    for unit in $(missing); do
        # Whether it ended in the preparation, in which no guard has a reason to act.
        ! grep -qx "$unit" <<<"$before" || unit=before:$unit
        dead="$dead $unit" right=no
    done
    [ "$load" != session ] || living /run/editor || { dead="$dead editor" && right=no; }
    if [ "$load" = tmpfs ] && pgrep --exact --runstates T dd >/dev/null; then dead="$dead stopped:writer"; fi
    if [ "$load" = cache ]; then
        for unit in reader1 reader2 reader3; do
            [[ $(how_ended $unit) == exit* ]] || { dead="$dead $unit" && right=no; }
        done
    fi
    read -r worst low least now </run/heartbeat
    # A load that ended by itself, or for which there was room, proves nothing of the guard.
    case $load in
    cache | tmpfs | limited) ;;
    *) [ $((least / 1024)) -lt $((number > 0 ? total / 4 : total / 20)) ] ||
        fail "$load left $((least / 1024)) MB of $total: it did not fill the machine" ;;
    esac
    note "load=$load guard=$GUARD right=$right ended=$(echo ${dead:-nothing} | tr ' ' ,)" \
        "kernel=$(dmesg | grep -c 'Out of memory: Killed process' || true)" \
        "gap=$(tenths $worst) short=$(tenths $low) least=$((least / 1024)) available=$((now / 1024))"
    guard_said "$load" >/dev/ttyS0
    for unit in $units; do hog_ends $unit; done
    rm -f /var/tmp/large /dev/shm/filled /run/editor /run/programs
    [ -z "$guard" ] || systemctl stop "$guard"
}
# guard_said LOAD: for the console, whose file remains after the machine's end.
guard_said() {
    echo "--- $1: $GUARD"
    [ -z "$guard" ] || journalctl --unit="$guard" -o short-monotonic --quiet | tail -n 60
    [ "$GUARD" != systemd-oomd ] || oomctl
}
tenths() { echo $(($1 / 1000000)).$(($1 / 100000 % 10)); }
for load in $LOADS; do
    for number in $(seq "$RUNS"); do run "$load"; done
done
