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
podman rm --force --time=0 shop-small shop-web >/dev/null

# memmon's own image, with no more than contrib/kubernetes/daemonset.yaml asks for, and with its configuration.
podman load --quiet --input $PLACE/memmon.oci.tar || fail 'podman does not load the image'
systemctl stop memmon.service
mkdir -p /run/pod
cp $PLACE/contrib/kubernetes/config.toml /run/pod/
podman run --detach --name=pod --pid=host --network=none --log-driver=k8s-file --read-only --read-only-tmpfs=false --user=0:0 \
    --cap-drop=ALL --cap-add=BPF --cap-add=KILL --cap-add=PERFMON --cap-add=SYS_PTRACE \
    --security-opt=seccomp=unconfined --security-opt=no-new-privileges --tmpfs=/run:rw,size=1m \
    --volume=/run/pod:/etc/memmon:ro --volume=/sys/fs/bpf:/sys/fs/bpf \
    localhost/memmon:2.0.0 run --config /etc/memmon/config.toml || fail 'podman does not run the image'
logged() { podman logs pod 2>&1 | grep -q "$1"; }
within $PATIENCE logged 'Scan complete' || fail "memmon in its container: $(podman logs pod 2>&1 | tr '\n' '|')"
logged 'DRY RUN.* memmon .* started.*Source: ebpf' || fail "not by eBPF: $(podman logs pod 2>&1 | head -n 3 | tr '\n' '|')"
podman exec pod /usr/sbin/memmon status --json >/run/probed || fail "the probe failed: $(cat /run/probed)"
container shop-web anon 120M hold
within $PATIENCE logged 'DRY RUN.*Name=hog' || fail "it does not see the hog: $(podman logs pod 2>&1 | tail -n 3 | tr '\n' '|')"
[ "$(inspect shop-web .State.Status)" = running ] || fail 'a dry run ended a process'
note "memmon in its container: $(podman logs pod 2>&1 | grep -c .) lines, $(podman logs pod 2>&1 | grep -o 'Source: [^,]*')"
podman stop --time=10 pod >/dev/null
[ "$(inspect pod .State.ExitCode)" = 0 ] || fail "it ended with $(inspect pod .State.ExitCode)"
podman rm --force --time=0 pod shop-web >/dev/null

# In a container with a cgroup and pids of its own, [machine] watches the limit of that container, of which less is left than of the
# machine: memmon alone takes a part of it that shows.
printf '[settings]\nlog_file = ""\n[history]\ndays = 0\n[machine]\n' >/run/pod/config.toml
podman run --detach --name=limited --memory=16m --network=none --log-driver=k8s-file --volume=/run/pod:/etc/memmon:ro \
    localhost/memmon:2.0.0 run --dry-run --source proc --config /etc/memmon/config.toml || fail 'podman does not run the image'
within $PATIENCE sh -c 'podman logs limited 2>&1 | grep -q "Scan complete"' || fail "no scan: $(podman logs limited 2>&1 | tr '\n' '|')"
ordered() { podman exec limited /usr/sbin/memmon explain --machine --json >/run/ordered 2>&1; }
within $PATIENCE ordered || fail "explain --machine: $(cat /run/ordered; podman logs limited 2>&1 | tr '\n' '|')"
note "in a container of 16 MB: $(tr -d ' \n' </run/ordered | cut -c 1-160)"
grep -q '"total_bytes": *16777216' /run/ordered || fail "it does not watch the limit of its container: $(cat /run/ordered)"
podman rm --force --time=0 limited >/dev/null
