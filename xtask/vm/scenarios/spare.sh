# Scans leave a process alone that is whitelisted by name, out of scope or within the limit, or a program in a home that only its
# user may enter, which a rule exempts by its path.
configure 'check_interval = 1'
printf '\n[scope]\nuids = ["1000"]\n' >>$CONFIG
mkdir -p -m 700 /home/alice
cp $PLACE/hog /home/alice/app
chown 1000:1000 /home/alice
printf '\n[[rule]]\nname = "home"\nexe = ["/home/alice/app"]\nnone = true\n' >>$CONFIG
is memmon.service ActiveState active || memmon_starts
mark
systemctl reload memmon.service
must_say 'Configuration reloaded'
ARGV0=sshd hog whitelisted uid 1000 anon 70M hold
hog outside uid 1001 anon 70M hold
hog within uid 1000 anon 10M hold
HOG=/home/alice/app hog home uid 1000 anon 70M hold
for unit in whitelisted outside within home; do hog_holds $unit; done
# A process over the limit is terminated, which shows that memmon enforces.
hog over uid 1000 anon 70M hold
died over SIGTERM
mark
within $PATIENCE scanned_since 3 || fail 'no three scans'
for unit in whitelisted outside within home; do lives $unit; done
for unit in whitelisted outside within home; do hog_ends $unit; done
rm -r /home/alice
