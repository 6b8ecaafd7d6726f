# Eight threads on as many processors: the map's error stays within the bound that memmon reports.
[ "$(nproc)" = 8 ] || fail "this machine has $(nproc) processors"
memmon_runs_with 'ram_percent_threshold = 90.0'
hog wide uid 1000 pinned 8 25M hold
hog_holds wide
pid=$(property wide MainPID)
entry() { bpftool --json map lookup pinned $PIN/processes key hex $(printf '%08x' "$pid" | sed 's/\(..\)\(..\)\(..\)\(..\)/\4 \3 \2 \1/'); }
pages() { entry | grep -o "\"$1\":[0-9]*" | tail -n 1 | cut -d: -f2; }
map=$((($(pages file_pages) + $(pages anon_pages) + $(pages shmem_pages)) * 4))
exact=$(sed -n 's/^Rss: *\([0-9]*\) kB$/\1/p' "/proc/$pid/smaps_rollup")
statm=$(($(cut -d' ' -f2 "/proc/$pid/statm") * 4))
[ "$exact" -gt 204800 ] || fail "the hog has only $exact kB"
# memmon reports the bound for a process (since Linux 6.2) or for each of its nine threads; the map's own step is added.
doctor=$(memmon doctor --json || true)
bound=$(echo "$doctor" | tr -d ' \n' | sed -n 's/.*"counter_error":{"held_back":"\([a-z_]*\)","bound":\([0-9]*\)}.*/\1 \2/p')
case $bound in
per_process*) allowed=$((${bound#* } / 1024 + 256)) ;;
per_thread*) allowed=$((${bound#* } / 1024 * 9 + 256)) ;;
*) fail "memmon doctor --json reports no bound: $bound" ;;
esac
off=$((map - exact))
note "exact $exact kB, map off by $off kB, statm off by $((statm - exact)) kB, allowed $allowed kB"
[ ${off#-} -le $allowed ] || fail "the map is off by $off kB, allowed are $allowed kB"
hog_ends wide
