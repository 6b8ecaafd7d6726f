# Status, metrics and mail work with the shipped unit or, where they need more, with the manual's drop-ins.
drop_in=/run/systemd/system/memmon.service.d/operators.conf
mkdir -p "$(dirname $drop_in)" /var/lib/memmon-metrics
# http PATH|PORT: prints /metrics from that socket or port.
http() {
    perl -MIO::Socket::UNIX -MIO::Socket::INET -e '
        my $to = shift;
        my $socket = $to =~ m{/} ? IO::Socket::UNIX->new(Peer => $to) : IO::Socket::INET->new("127.0.0.1:$to");
        $socket or die "$to: $!\n";
        print $socket "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        print while <$socket>' "$1"
}
as_alice() { setpriv --reuid=1000 --regid=1000 --groups=1000"${1:+,$1}" memmon status; }

cp $SHIPPED $CONFIG
sed -i 's|^\[metrics\].*|&\nlisten = "/run/memmon/metrics.sock"\ntextfile = "/var/log/memmon.prom"|' $CONFIG
mark
systemctl restart memmon.service
memmon status | grep 'ebpf' || fail "status: $(memmon status)"
memmon status --json | grep '"name": "ebpf"' || fail "status --json: $(memmon status --json)"
! as_alice || fail 'every user may query the status'
http /run/memmon/metrics.sock | grep '^memmon_source{source="ebpf"} 1' || fail "metrics: $(http /run/memmon/metrics.sock)"
within $PATIENCE grep -q '^memmon_build_info' /var/log/memmon.prom || fail 'no textfile'

# A status group, a textfile elsewhere, a port, and mail: memmon logs what the shipped unit forbids, ...
relay=$(mktemp -d)
perl -MIO::Socket::INET -e '
    my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:2525", Listen => 5, ReuseAddr => 1) or die "$!\n";
    while (my $client = $server->accept) {
        print $client "220 relay ESMTP\r\n";
        while (<$client>) {
            print;
            STDOUT->flush;
            if (/^DATA/) {
                print $client "354 go on\r\n";
                while (<$client>) { print; STDOUT->flush; last if /^\.\r/ }
            }
            print $client /^QUIT/ ? "221 bye\r\n" : "250 ok\r\n";
        }
    }' >$relay/received 2>&1 &
trap "kill $!" EXIT
sed -i 's|^group = .*|group = "games"|; s|^listen = .*|listen = "127.0.0.1:9819"|
    s|^textfile = .*|textfile = "/var/lib/memmon-metrics/memmon.prom"|
    s|^\[notify\].*|&\nmail_to = ["root@localhost"]|; s|^smtp_host = .*|smtp_host = "127.0.0.1"|; s|^smtp_port = .*|smtp_port = 2525|' $CONFIG
mark
systemctl restart memmon.service
must_say 'Degraded: .*for root only, or for nobody: .*systemctl edit memmon'
hog unanswered uid 1000 anon 70M hold
died unanswered SIGTERM
must_say 'notification by mail failed, .*memmon\(8\), SYSTEMD'
must_say '/var/lib/memmon-metrics.*memmon\(8\), SYSTEMD'

# ... and the manual's drop-ins allow it.
cat >$drop_in <<'END'
[Service]
Group=games
ReadWritePaths=/var/lib/memmon-metrics
PrivateNetwork=no
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
IPAddressAllow=localhost
END
systemctl daemon-reload
systemctl stop memmon.service
memmon_starts
must_not_say 'SYSTEMD|systemctl edit'
as_alice "$(getent group games | cut -d: -f3)" || fail 'a member of the group may not query the status'
! as_alice || fail 'a user outside the group may query the status'
within $PATIENCE http 9819 || fail 'no answer at the port'
within $PATIENCE grep -q '^memmon_build_info' /var/lib/memmon-metrics/memmon.prom || fail 'no textfile there'
hog posted uid 1000 anon 70M hold
died posted SIGTERM
within $PATIENCE grep -q '^Subject: ' $relay/received || fail "the relay received: $(tr '\r\n' '  ' <$relay/received)"

rm -r $drop_in $relay /var/lib/memmon-metrics
rm -f /var/log/memmon.prom
systemctl daemon-reload
configure
systemctl restart memmon.service
