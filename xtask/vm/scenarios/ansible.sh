# The Ansible role installs memmon in dry run, lets it enforce by one variable, changes nothing if nothing is different, and
# never replaces a configuration by a wrong one. (It removes memmon before and after: packages of its own come and go.)
dpkg --purge memmon
rm -f /var/log/memory_monitor.log
export LC_ALL=C.UTF-8 HOME=/root ANSIBLE_ROLES_PATH=$PLACE/contrib/ansible/roles ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=0
play=/run/play
mkdir -p $play

# role NAME: runs the role with the variables on standard input, and keeps the output in $play/NAME.
role() {
    { printf -- '- hosts: localhost\n  connection: local\n  gather_facts: false\n  roles: [memmon]\n  vars:\n'; sed 's/^/    /'; } >$play/$1.yml
    ansible-playbook "${@:2}" $play/$1.yml >$play/$1 2>&1
}
# must NAME PATTERN: its recap.
must() { grep '^localhost ' $play/$1 | grep -qE -- "$2" || fail "$1: not $2: $(tail -n 25 $play/$1 | tr '\n' '|')"; }

variables() {
    cat <<END
memmon_package: ${PACKAGE:-$PLACE/memmon.deb}
memmon_config:
  thresholds: {ram_gb_threshold: ${GB:-0.05}, check_interval: 5}
  whitelist: {names: [sshd, "a\"b"], protect_root: true}
memmon_fragments:
  ${FRAGMENT:-builds}:
    rule: [{name: builds, users: [root], gb: 1, not: {names: [x, "y*"]}}]
memmon_enforce: ${ENFORCE:-false}
END
}

ansible-playbook --version | sed -n 1p
variables | role syntax --syntax-check || fail "$(cat $play/syntax)"
variables | role before --check || true
must before 'failed=0'
test ! -e /etc/memmon/config.toml || fail '--check installed it'

variables | role first || true
must first 'changed=[1-9].* failed=0'
is memmon.service UnitFileState enabled || fail "the unit is $(property memmon.service UnitFileState)"
is memmon.service ActiveState active || fail "memmon is $(property memmon.service ActiveState)"
grep -qxF 'not = { names = ["x", "y*"] }' /etc/memmon/conf.d/builds.toml || fail "$(cat /etc/memmon/conf.d/builds.toml)"
memmon status | grep 'dry run until `memmon enable`' || fail "status: $(memmon status)"
memmon check >/dev/null
mark
hog watched uid 1000 anon 70M hold
must_say '\[DRY RUN\] Killing process: PID=[0-9]+, Name=hog, User=alice'
lives watched

variables | role second || true
must second 'changed=0 .* failed=0'

ENFORCE=true variables | role enforced || true
must enforced 'changed=1 .* failed=0'
died watched SIGTERM

# A wrong value is refused before anything is replaced.
sums() { sha256sum /etc/memmon/config.toml /etc/memmon/conf.d/*; }
sums >$play/sums
GB='lots' ENFORCE=true variables | role wrong && fail 'a wrong value was accepted'
grep -q 'ram_gb_threshold' $play/wrong || fail "the error is not shown: $(tail -n 25 $play/wrong | tr '\n' '|')"
sums | diff $play/sums - || fail 'a wrong value changed a file'
! ls -d /run/memmon.* 2>/dev/null || fail 'the copy was left behind'

# Back, with a fragment of another name, beside one that is not the role's, and a package from a URL.
printf '[log]\nlevel = "debug"\n' >/etc/memmon/conf.d/own.toml
mkdir $play/www
cp memmon.deb $play/www/
python3 -m http.server --directory $play/www --bind 127.0.0.1 8000 >/dev/null 2>&1 &
trap "kill $!" EXIT
within $PATIENCE bash -c ': >/dev/tcp/127.0.0.1/8000' || fail 'no web server'
export PACKAGE=http://127.0.0.1:8000/memmon.deb FRAGMENT=other
mark
variables | role back || true
must back 'failed=0'
must_say 'Configuration reloaded'
memmon status | grep 'dry run until `memmon enable`' || fail "status: $(memmon status)"
[ "$(echo /etc/memmon/conf.d/*.toml)" = '/etc/memmon/conf.d/other.toml /etc/memmon/conf.d/own.toml' ] || fail "$(ls /etc/memmon/conf.d)"
variables | role again || true
must again 'changed=0 .* failed=0'

dpkg --purge memmon
rm -rf /etc/memmon /var/cache/memmon
dpkg --install ./memmon.deb
