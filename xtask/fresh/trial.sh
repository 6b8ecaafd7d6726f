# Runs the first commands of README.md on a Debian 12 that was installed some weeks ago. `cargo xtask fresh-test` starts it as
# root, in a mount namespace of its own, with $CHECKOUT, $SCRATCH (an empty folder) and $SYSROOT (the toolchain of rustup's
# stable).
set -euo pipefail
root=$SCRATCH/root
mirror=http://deb.debian.org

# begin NAME: prints how long the previous part took, and the name of the next one.
began=$SECONDS part=
begin() {
    [ -z "$part" ] || echo "fresh-test: $part took $((SECONDS - began)) s"
    part=$1 began=$SECONDS
    printf '\n== %s\n' "$1"
}
failed() { echo "fresh-test: $*" >&2; exit 1; }
# has TEXT FILE, lacks TEXT FILE
has() { grep -qF -- "$1" "$2" || failed "the output lacks: $1"; }
lacks() { ! grep -qF -- "$1" "$2" || failed "the output has: $1"; }

begin 'a bare Debian 12'
# Its package lists are those of the release without its updates: they have an old compiler, and no LLVM that is new enough.
mmdebstrap --quiet --variant=minbase --mode=root --format=directory --skip=cleanup/apt,cleanup/apt/lists \
    --include=ca-certificates,gcc,libc6-dev bookworm "$root" "deb $mirror/debian bookworm main"
rm -f "$root"/etc/apt/sources.list
cat >"$root/etc/apt/sources.list.d/debian.sources" <<SOURCES
Types: deb
URIs: $mirror/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: $mirror/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
# DNS servers and certificates of this machine, because the network may need a proxy.
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
for folder in proc sys dev; do
    mount --rbind "/$folder" "$root/$folder"
done

# rustup's stable as rustup installs it, and nothing else of this machine.
home=$root/root
toolchain=$(basename "$SYSROOT")
mkdir -p "$home/.cargo/bin" "$home/.rustup/toolchains/$toolchain"
cp --dereference "$(command -v rustup)" "$home/.cargo/bin/rustup"
for proxy in cargo rustc rustdoc cargo-clippy clippy-driver cargo-fmt rustfmt; do
    ln -s rustup "$home/.cargo/bin/$proxy"
done
printf 'version = "12"\ndefault_toolchain = "%s"\n' "$toolchain" >"$home/.rustup/settings.toml"
mount --bind -o ro "$SYSROOT" "$home/.rustup/toolchains/$toolchain"

# The sources as in a clone, with the changes that are not committed yet.
mkdir "$home/memmon"
git -C "$CHECKOUT" ls-files -z --cached --others --exclude-standard |
    tar --directory "$CHECKOUT" --create --ignore-failed-read --null --files-from - |
    tar --directory "$home/memmon" --extract --no-same-owner

# there COMMAND…: runs the command on that machine, without a terminal.
there() {
    local proxies=() name
    for name in http_proxy https_proxy no_proxy; do
        [ -z "${!name-}" ] || proxies+=("$name=${!name}")
    done
    env -i "${proxies[@]}" HOME=/root LANG=C.UTF-8 PATH=/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        CARGO_TERM_COLOR=never RUSTUP_AUTO_INSTALL=0 \
        chroot "$root" sh -c 'cd ~/memmon && exec "$@"' sh "$@" </dev/null 2>&1
}

there apt-cache policy llvm-22-dev rustc-web >"$SCRATCH/lists"
lacks 'Candidate: 1:22' "$SCRATCH/lists"
has 'Candidate: 1.85' "$SCRATCH/lists"

begin 'cargo xtask run'
there cargo xtask run -- --once | tee "$SCRATCH/run"
has 'step 1 of 5 or more: bring apt' "$SCRATCH/run"
has 'step 5 of 5: build memmon and start it' "$SCRATCH/run"
has 'Source: ebpf' "$SCRATCH/run"
lacks 'watches through /proc' "$SCRATCH/run"
# The host may have mounted it already.
mountpoint -q /sys/fs/bpf || has 'bpffs is mounted there now' "$SCRATCH/run"

begin 'cargo xtask run, again'
there cargo xtask run -- --once | tee "$SCRATCH/again"
has 'step 1 of 2: build the BPF half' "$SCRATCH/again"
lacks 'apt-get' "$SCRATCH/again"

begin 'cargo xtask test'
# A part of the tests: the pure decisions, and the kernel's counters. All of them would take as long as in CI.
there cargo xtask test -- policy:: counts:: | tee "$SCRATCH/test"
has ' 0 failed, 0 skipped' "$SCRATCH/test"

begin 'the end'
