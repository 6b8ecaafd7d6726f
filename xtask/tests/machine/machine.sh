# Makes a throw-away copy of this machine to install on: its root file system below an overlay, in a mount namespace of its
# own. All changes are gone when the namespace ends. $CHECKOUT is the folder of the sources, $XTASK the program.
set -eu

mount -t tmpfs none "$SCRATCH"
cd "$SCRATCH"
mkdir upper work machine
mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=work machine
mkdir -p "machine$CHECKOUT" machine/run/systemd/system machine/tmp/stand-ins machine/tmp/built/release machine/tmp/built/manual
mount --rbind "$CHECKOUT" "machine$CHECKOUT"
mount --rbind /proc machine/proc
mount --rbind /dev machine/dev
cp "$XTASK" machine/tmp/xtask

# Stand-ins for systemctl and journalctl record how they are called. The files /tmp/enabled and /tmp/active list the units
# of v1 that are enabled and active.
for name in systemctl journalctl; do
    printf '#!/bin/sh\necho %s "$@" >>/tmp/asked\n' $name >machine/tmp/stand-ins/$name
done
cat >>machine/tmp/stand-ins/systemctl <<'SYSTEMCTL'
case "$1 $2" in
"is-enabled memory"?monitor.service) grep -sqx "$2" /tmp/enabled || { echo disabled; exit 1; }; echo enabled ;;
"is-active memory"?monitor.service) grep -sqx "$2" /tmp/active || { echo inactive; exit 3; }; echo active ;;
"disable --now") for file in /tmp/enabled /tmp/active; do ! test -e $file || sed -i "/^$3$/d" $file; done ;;
esac
SYSTEMCTL
# A stand-in for memmon, which has its own tests.
cat >machine/tmp/built/release/memmon <<'MEMMON'
#!/bin/sh
if [ "$1" = enable ]; then
    echo "Over the limit of 2.00GB now: as /etc/memmon/config.toml has it"
    if [ "${2:-}" != --yes ]; then
        printf 'Let memmon terminate these? [y/N] '
        read -r answer
        [ "$answer" = y ] || exit 1
    fi
    echo agreed >/etc/memmon/enabled
    exit 0
fi
[ "$1" = check ] || exit 9
if grep -q wrong "$2"; then echo "$2:1:1: wrong" >&2; exit 2; fi
echo "Over the limit of 2.00GB now: by $2"
MEMMON
chmod +x machine/tmp/stand-ins/* machine/tmp/built/release/memmon
for name in memmon.8 memmon.toml.5 memmon.bash _memmon memmon.fish; do
    echo "$name" >machine/tmp/built/manual/$name
done
: >machine/tmp/asked

# Logs and state of an earlier memmon on this machine.
rm -rf machine/var/log/memory_monitor.log* machine/var/lib/memmon

# tree: lists everything that an installation could change.
tree() {
    (cd machine && find etc opt usr/lib/systemd usr/local usr/sbin var/lib var/log \
        '(' -type d -printf '%y %m %p\n' ')' -o -printf '%y %m %s %p\n' | sort)
}
in_machine() { chroot machine env PATH="/tmp/stand-ins:$PATH" CARGO_TARGET_DIR=/tmp/built "$@"; }
# xtask ARGUMENTS…: without a terminal.
xtask() { in_machine /tmp/xtask "$@" </dev/null; }
# at_terminal ANSWERS ARGUMENTS…: xtask at a terminal at which these answers are typed.
at_terminal() {
    answers=$1
    shift
    printf "$answers" | in_machine script --quiet --return --command "/tmp/xtask $*" /dev/null
}
asked() { cat machine/tmp/asked; }
