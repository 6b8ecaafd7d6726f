# Shared memory over the limit: a process that maps it alone ends, one whose parent maps it lives, and since Linux 6.1 the kernel
# shows which of them it is, without a question to other processes.
memmon_runs_with 'level = "debug"'
hog alone uid 1000 shmem 70M hold
died alone SIGTERM
must_say 'Terminated: PID=[0-9]+, Name=hog, User=alice'
looked_up=$(said 'shared memory is looked up' | tail -n 1)
note "$(uname -r): $(echo "$looked_up" | grep -o 'asked=[0-9]*, walk=[a-z]*')"
case $(uname -r) in
5.*) ! echo "$looked_up" | grep -q 'asked=0' || fail 'nobody was asked, although this kernel does not show who maps a file' ;;
*) echo "$looked_up" | grep -q 'asked=0' || fail "others were asked: $looked_up" ;;
esac
hog_ends alone

mark
hog parent uid 1000 memfd 70M map fork rewrite hold end hold
hog_holds parent 2
must_say 'Over the limit by RSS only, left alone: PID=[0-9]+, Name=hog'
must_not_say 'Killing process'
lives parent
hog_ends parent
memmon_runs_with
