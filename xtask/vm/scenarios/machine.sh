# A machine that is short of memory as a whole: memmon ends those that made it so, and nobody else.
nobody_else_died() {
    lives database
    [ "$(kernel_killed)" = "$before" ] || fail "the kernel's OOM killer killed a process: $(dmesg | grep 'Killed process' | tail -n 1)"
}
before=$(kernel_killed)
configure 'ram_percent_threshold = 100.0' 'ram_gb_threshold = 64.0' 'check_interval = 2'
echo '[machine]' >>$CONFIG
memmon_starts
# A database with more memory than each of the others, and idle.
hog database uid 33 anon 200M hold
hog_holds database
mark
within $PATIENCE scanned_since 2 || fail 'no two scans'

# Ten workers of one user, which together want more than there is.
mark
systemd-run --quiet --unit=crowd --property=OOMPolicy=continue bash -c 'exec 3< <(exec sleep infinity)
    for i in 1 2 3 4 5 6 7 8 9 10; do '"$PLACE"'/hog uid 1000 grow 100M 10M/s hold <&3 & done; wait'
crowd_is_done() {
    local left held
    held=$(journalctl --unit=crowd --output=cat --quiet | grep -c 'begin hold')
    left=$(said 'Terminated: PID=[0-9]+, Name=hog, User=alice|Killed: PID=[0-9]+, Name=hog, User=alice' | wc -l)
    [ $((held + left)) -ge 10 ]
}
must_say 'Machine short of memory, ending the culprit: PID=[0-9]+, Name=hog, User=alice, .* one of [0-9]+ processes of unit crowd.service'
must_say 'Killing process: PID=[0-9]+, Name=hog, User=alice, .*, Machine short of memory'
within $PATIENCE crowd_is_done || fail "$(journalctl --unit=crowd -o cat | tail -n 20)"
must_not_say 'Killing process: PID=[0-9]+, Name=[^,]*, User=(root|www-data|33)'
nobody_else_died
ended=$(said 'Killing process' | wc -l)
[ "$ended" -lt 10 ] || fail 'the whole crowd was ended'
note "$ended of ten workers ended, $(available) MB are available"
systemctl stop crowd

# Page cache that is read again and again, without a process that grows.
mark
truncate -s 3G /var/tmp/large
for reader in 1 2 3; do
    systemd-run --quiet --unit="reader-$reader" --uid=1000 --property=RemainAfterExit=yes timeout 15 cat /var/tmp/large /var/tmp/large
done
for reader in 1 2 3; do
    within $PATIENCE ended "reader-$reader" || fail "reader-$reader goes on"
    [[ $(how_ended "reader-$reader") == exit* ]] || fail "reader-$reader ended by $(how_ended "reader-$reader")"
    hog_ends "reader-$reader"
done
rm /var/tmp/large
must_not_say 'Killing process'
nobody_else_died

# A unit that the kernel slows down: its processes wait for memory, and the machine has enough.
mark
systemd-run --quiet --unit=slowed --property=RemainAfterExit=yes --property=MemoryHigh=60M \
    bash -c "exec $PLACE/hog uid 1000 grow 200M 100M/s hold < <(exec sleep infinity)"
waits() { awk '/^some/ { split($2, ten, "="); exit ten[2] < 20 }' /proc/pressure/memory; }
within $PATIENCE waits || fail "nothing waits: $(cat /proc/pressure/memory)"
within $PATIENCE scanned_since 3 || fail 'no three scans'
note "$(head -n 1 /proc/pressure/memory) while a unit is slowed down, $(available) MB are available"
must_not_say 'Killing process|Machine short of memory'
nobody_else_died
hog_ends slowed

# Files in memory belong to no process: nobody's end would give them back.
mark
mount -o remount,size=100% /dev/shm
files=0
until said 'no process is ended' >/dev/null; do
    if [ "$(available)" -gt 45 ]; then
        files=$((files + 1))
        head -c 8M /dev/zero >/dev/shm/$files
    fi
    [ $files -lt 200 ] || fail "$files files, and $(available) MB are available"
    sleep 0.1
done
must_say 'Growth since: processes .*tmpfs and shared memory [0-9.]+[MG]B.* Files in memory: /dev/shm '
must_not_say 'Killing process'
nobody_else_died
rm -r /dev/shm/*
must_say 'Machine has enough memory again'
systemctl stop memmon.service

# The process that fills a file in memory on and on is stopped, if that is asked for; before Linux 5.14 only with a drop-in.
echo 'stop_writers = true' >>$CONFIG
if [ "$(stat -c %a /proc/self/fdinfo)" = 500 ]; then
    memmon_starts
    must_say 'does not find the processes that fill memory with files .*before Linux 5.14 this needs CAP_DAC_READ_SEARCH'
    systemctl stop memmon.service
    mkdir -p /etc/systemd/system/memmon.service.d
    printf '[Service]\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n' >/etc/systemd/system/memmon.service.d/writers.conf
    systemctl daemon-reload
fi
memmon_starts
must_not_say 'does not find the processes'
within $PATIENCE scanned_since 2 || fail 'no two scans'
systemd-run --quiet --unit=writer --uid=1000 --property=RemainAfterExit=yes \
    bash -c 'exec 3>/dev/shm/filled; while :; do head -c 2M /dev/zero >&3; sleep 0.1; done'
must_say 'Stopping process: PID=[0-9]+, Name=(bash|head), User=alice'
must_not_say 'Killing process'
nobody_else_died
rm /dev/shm/filled
hog_ends writer
must_say 'Machine has enough memory again'
hog_ends database
systemctl stop memmon.service
rm -rf /etc/systemd/system/memmon.service.d
systemctl daemon-reload
