# memmon is installed as users install it, from the .deb, which enables the unit and starts nothing. (First in every machine.)
tree >/run/tree.before
dpkg --install ./memmon.deb
is memmon.service UnitFileState enabled || fail "the unit is $(property memmon.service UnitFileState)"
is memmon.service ActiveState inactive || fail "the unit is $(property memmon.service ActiveState): installing started it"
test ! -e /run/memmon || fail 'it ran'
memmon --version
memmon check >/dev/null || [ $? = 1 ] || fail 'memmon check rejects the shipped configuration'
cp $CONFIG $SHIPPED
