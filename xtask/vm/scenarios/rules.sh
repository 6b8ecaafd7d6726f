# A rule for what the processes of a user hold together: two users with twenty processes each, in units of their own managers.
# One crosses the limit: only their largest process ends, and that is enough.
for user in alice:1000 bob:1001; do
    name=${user%:*} uid=${user#*:}
    grep -q "^$name:" /etc/passwd || echo "$name:x:$uid:$uid::/:/bin/bash" >>/etc/passwd
    grep -q "^$name:" /etc/shadow || echo "$name:*:19000:0:99999:7:::" >>/etc/shadow
    grep -q "^$name:" /etc/group || echo "$name:x:$uid:" >>/etc/group
done
# Without pam_systemd nobody names the folder that is made for the manager.
mkdir -p /run/systemd/system/user@.service.d
printf '[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%%i\n' >/run/systemd/system/user@.service.d/folder.conf
systemctl daemon-reload
mkfifo -m 0644 /run/hold
sleep infinity <>/run/hold &
holder=$!
unit() { printf '[Service]\nStandardInput=file:/run/hold\nExecStart=%s/hog %s hold\n' $PLACE "$2" >"/etc/systemd/user/$1.service"; }
unit crowd@ 'anon 6M'
unit large 'grow 180M 30M/s'
# of_user NAME VERB UNIT…: systemctl for the manager of a user.
of_user() {
    local uid
    uid=$(id -u "$1")
    shift
    setpriv --reuid="$uid" --regid="$uid" --clear-groups env XDG_RUNTIME_DIR="/run/user/$uid" systemctl --user "$@"
}
hogs() { pgrep -c -u "$1" -x hog || true; }
has_hogs() { [ "$(hogs "$1")" = "$2" ]; }
# The resident memory of a user's processes, in MB: pages that several share count for each.
resident() { ps -o rss= -u "$1" | awk '{ sum += $1 } END { print int(sum / 1024) }'; }
holds() { [ "$(resident "$1")" -ge "$2" ]; }

configure 'ram_percent_threshold = 100.0' 'ram_gb_threshold = 64.0' 'check_interval = 2'
# 256 MB
printf '\n[[rule]]\nname = "users"\nuids = ["1000-1001"]\nper = "user"\ngb = 0.25\n' >>$CONFIG
memmon_starts
hog database uid 33 anon 40M hold
hog_holds database
for user in alice bob; do
    systemctl start "user@$(id -u $user).service" || fail "$user has no manager: $(journalctl -o cat -n 5 -u "user@$(id -u $user)")"
done
of_user alice start crowd@{1..19} || fail 'the units of alice do not start'
of_user bob start crowd@{1..20} || fail 'the units of bob do not start'
within $PATIENCE has_hogs alice 19 || fail "alice has $(hogs alice) hogs"
within $PATIENCE has_hogs bob 20 || fail "bob has $(hogs bob) hogs"
within $PATIENCE holds alice $((19 * 6)) || fail "alice holds $(resident alice) MB"
within $PATIENCE holds bob $((20 * 6)) || fail "bob holds $(resident bob) MB"
mark
within $PATIENCE scanned_since 3 || fail 'no three scans'
must_not_say 'Killing process'

# The twentieth of alice grows until all of them are over the limit together.
of_user alice start large.service
must_say 'Over the limit together: user alice, 2[0-9] processes, RAM=0\.[23][0-9]GB, Limit=0\.25GB, Rule=users\. As few'
must_say 'Killing process: PID=[0-9]+, Name=hog, User=alice, .*Rule=users'
must_say 'Terminated: PID=[0-9]+, Name=hog, User=alice, .*Sum=user alice, 2[0-9] processes with'
within $PATIENCE has_hogs alice 19 || fail "alice has $(hogs alice) hogs"
[ "$(of_user alice is-active large.service)" != active ] || fail 'the largest goes on'
mark
within $PATIENCE scanned_since 3 || fail 'no three scans'
must_not_say 'Killing process|Over the limit'
[ "$(journalctl --unit=memmon.service --output=cat --quiet | grep -c 'Killing process: .*Rule=users')" = 1 ] ||
    fail 'more than one process was ended'
has_hogs alice 19 || fail "alice has only $(hogs alice) hogs"
has_hogs bob 20 || fail "bob has only $(hogs bob) hogs"
[ "$(resident alice)" -lt 256 ] || fail "alice holds $(resident alice) MB still"
for user in alice bob; do is "user@$(id -u $user).service" ActiveState active || fail "the manager of $user has ended"; done
lives database
note "alice holds $(resident alice) MB in $(pgrep -c -u alice) processes, bob $(resident bob) MB"

systemctl stop user@1000.service user@1001.service
kill $holder
rm -r /run/hold /etc/systemd/user/crowd@.service /etc/systemd/user/large.service /run/systemd/system/user@.service.d
systemctl daemon-reload
hog_ends database
systemctl stop memmon.service
