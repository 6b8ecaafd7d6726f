# memmon comes as its users get it: the .deb, which enables the unit and starts nothing. It terminates nothing before
# `memmon enable`. (First in every machine.)
tree >/run/tree.before
dpkg --install ./memmon.deb
is memmon.service UnitFileState enabled || fail "the unit is $(property memmon.service UnitFileState)"
is memmon.service ActiveState inactive || fail "the unit is $(property memmon.service ActiveState): installing started it"
test ! -e /run/memmon || fail 'it ran'
memmon --version
memmon check >/dev/null || [ $? = 1 ] || fail 'memmon check rejects the shipped configuration'
cp $CONFIG $SHIPPED

# As the machine would be after its next boot.
mark
systemctl start memmon.service
must_say '\[DRY RUN\] memmon 2.* started\. .*nothing until `memmon enable` is run'
# An eighth of the memory is more than the default limit, a tenth.
large=$(awk '/^MemTotal:/ { print int($2 / 8192) }' /proc/meminfo)M
hog early uid 1000 anon "$large" hold
hog_holds early
must_say '\[DRY RUN\] Killing process: PID=[0-9]+, Name=hog, User=alice'
lives early
memmon status | grep 'dry run until `memmon enable`' || fail "status: $(memmon status)"
! memmon enable </dev/null >/run/enable 2>&1 || fail 'it was enabled though nobody could be asked'
grep "PID=$(property early MainPID), Name=hog, .*: would be terminated" /run/enable || fail "$(tr '\n' ' ' </run/enable)"
lives early
memmon enable --yes | grep 'enforces its limits now' || fail 'memmon enable does not say that memmon enforces'
died early SIGTERM
memmon disable | grep 'in dry run now' || fail 'memmon disable does not say that memmon is in dry run'
hog late uid 1000 anon "$large" hold
hog_holds late
must_say "\[DRY RUN\] Killing process: PID=$(property late MainPID), "
lives late
hog_ends late
memmon enable --yes
systemctl stop memmon.service
test -e /etc/memmon/enabled || fail 'stopping memmon disabled it'
rm -f /var/log/memory_monitor.log
