# A name service that hangs holds no line: the first line about a user has the uid, later lines have the name.
echo 'carol:x:1002:1002::/:/bin/bash' >>/etc/passwd
# The C library asks nscd first, and waits for an answer for five seconds, but only once in a hundred questions: the first
# question must be about this user.
systemctl stop memmon.service
configure 'check_interval = 1' 'users = []'
mkdir /run/nscd
perl -MIO::Socket::UNIX -e '
    my $server = IO::Socket::UNIX->new(Local => "/run/nscd/socket", Listen => 64) or die "$!\n";
    my @asked;
    push @asked, $server->accept while 1' &
trap "kill $!" EXIT
within 30 test -S /run/nscd/socket || fail 'no name service'
memmon_starts
hog unnamed uid 1002 anon 70M hold
died unnamed SIGTERM
must_say 'PID=[0-9]+, Name=hog, User=1002,'
must_say 'Killing process: PID=[0-9]+, Name=hog'
kill $!
trap - EXIT
rm -r /run/nscd
named() {
    mark
    hog named uid 1002 anon 70M hold
    died named SIGTERM
    hog_ends named
    within 20 said 'Killing process: PID=[0-9]+, Name=hog, User=carol,'
}
within $PATIENCE named || fail 'the name did not come back with the name service'
hog_ends unnamed
sed -i '/^carol:/d' /etc/passwd
