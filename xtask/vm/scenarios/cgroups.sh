# Cgroups: nested too deeply for /proc, and frozen. (Linux before 6.8 shows no path of 4096 bytes; later ones cut it.)
nested() {
    perl -e '
        my ($what, $pid) = @ARGV;
        chdir "/sys/fs/cgroup" or die;
        my @names = ("deep", ("d" x 250) x 20);
        for (@names) { mkdir $_; chdir $_ or die "$!\n" }
        if ($what eq "take") { open my $file, ">", "cgroup.procs" or die; print $file $pid; close $file or die "$!\n" }
        else { for (reverse @names) { chdir ".."; rmdir $_ or die "$!\n" } }' "$@"
}
scoped() {
    cp $SHIPPED $CONFIG
    sed -i 's/^check_interval = .*/check_interval = 1/' $CONFIG
    printf '\n[scope]\nuids = ["1000"]\ncgroups = ["%s"]\n' "$1" >>$CONFIG
    is memmon.service ActiveState active || memmon_starts
    mark
    systemctl reload memmon.service
    must_say 'Configuration reloaded'
}
scoped '/elsewhere/**'
hog nested uid 1000 anon 70M hold
hog_holds nested
nested take "$(property nested MainPID)"
note "/proc shows $(cat /proc/"$(property nested MainPID)"/cgroup 2>&1 | tail -c 60)"
mark
within $PATIENCE scanned_since 3 || fail 'no three scans'
lives nested
must_not_say 'Name=hog'
scoped '/deep/**'
died nested SIGTERM
must_say 'Terminated: PID=[0-9]+, Name=hog, User=alice'
hog_ends nested
nested remove

# A frozen process cannot handle SIGTERM; the freezer of v2 lets it go when it is killed.
scoped '/system.slice/**'
systemctl stop memmon.service
hog iced uid 1000 save-on-term /run/iced anon 30M shmem 40M hold
hog_holds iced
systemctl freeze iced
memmon_starts
died iced SIGKILL
must_say 'Still running .* after SIGTERM, sending SIGKILL: PID=[0-9]+, Name=hog'
must_say 'Killed: PID=[0-9]+, Name=hog'
must_not_say 'Still there'
hog_ends iced
