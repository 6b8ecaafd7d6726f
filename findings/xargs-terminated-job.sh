#!/usr/bin/env bash
# xargs of findutils 4.9.0 (Debian 12): if one of its commands is terminated by a signal, it starts none of those that are
# left, and exits with 125. A command that fails by itself has them all run.
. "$(dirname "$0")/lib.sh"
unpack findutils=4.9.0-4

# jobs COMMAND: hands 1 to 6 to the command, two at a time; the output and the exit code are in $out.
jobs() {
    local code=0 text
    text=$(seq 6 | "$folder/root/usr/bin/xargs" -P 2 -n 1 sh -c "$1" sh 2>&1) || code=$?
    out=$(printf '%s\n' "$text" "exit code $code")
}

jobs 'echo "job $1 begins"; [ "$1" != 2 ] || exit 1; sleep 1; echo "job $1 ends"'
expect 'a job that fails: the last one ends' '^job 6 ends$' "$out"
expect 'a job that fails: exit code 123' '^exit code 123$' "$out"
jobs 'echo "job $1 begins"; [ "$1" != 2 ] || kill $$; sleep 1; echo "job $1 ends"'
expect 'a job that is terminated: xargs says so' 'terminated by signal 15' "$out"
expect 'a job that is terminated: the one beside it ends' '^job 1 ends$' "$out"
expect 'a job that is terminated: exit code 125' '^exit code 125$' "$out"
[ "$(grep -c begins <<<"$out")" -lt 6 ] || { printf 'changed: all jobs began:\n%s\n' "$out"; exit 1; }
echo 'as expected: a job that is terminated: others never begin'
