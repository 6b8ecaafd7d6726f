# Podman's containers: records, `memmon explain` and `memmon history` have the name from Podman's own files, and the pid inside.
mkdir -p /etc/containers
printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
    >/etc/containers/storage.conf
# An image of the hog and its libraries.
image=/var/tmp/image
mkdir -p $image
cp $PLACE/hog $image/
for library in $(ldd $PLACE/hog | grep -o '/[^ ]*'); do
    install -D "$library" "$image$library"
done
tar --directory=$image --create . | podman import - localhost/hog || fail 'podman imports no image'

# container NAME STEPS…: starts a hog in a container of that name.
container() {
    local name=$1
    shift
    podman run --detach --interactive --name="$name" --network=none --user=1000 --log-driver=none localhost/hog /hog "$@" ||
        fail "podman does not run $name"
}
inspect() { podman inspect --format="{{$2}}" "$1"; }

memmon_runs_with 'check_interval = 1'
container shop-small anon 20M hold
small=$(inspect shop-small .State.Pid)
note "$(podman --version), $(inspect shop-small .OCIRuntime), $(cat /proc/"$small"/cgroup)"
memmon explain "$small" >/run/explained || true
grep -q "container $(inspect shop-small .Id) of podman, named shop-small" /run/explained ||
    fail "explain: $(tr '\n' '|' </run/explained)"

mark
container shop-web anon 120M hold
id=$(inspect shop-web .Id)
# The first process of a container gets no SIGTERM that it does not handle.
must_say 'Killed: PID=[0-9]+, Name=hog|Terminated: PID=[0-9]+, Name=hog'
must_say "PID inside=1 .*Container=${id:0:12}, Runtime=podman, Container name=shop-web"
is_over() { [ "$(inspect shop-web .State.Status)" = exited ]; }
within $PATIENCE is_over || fail "shop-web is $(inspect shop-web .State.Status)"
[ "$(inspect shop-web .State.ExitCode)" = 137 ] || fail "shop-web ended with $(inspect shop-web .State.ExitCode), not by SIGKILL"
kept() { memmon history --container shop-web | grep -q 'hog .*, Container=shop-web'; }
within $PATIENCE kept || fail "history: $(memmon history | tr '\n' '|')"
[ "$(inspect shop-small .State.Pid)" = "$small" ] || fail 'the other container is gone'
podman rm --force --time=0 shop-small shop-web
