# Shared by the findings: a temporary folder with unpacked packages. Sourced.

set -euo pipefail
folder=$(mktemp -d)
started=()
cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT

# unpack PACKAGE[=VERSION]…: into $folder/root; nothing is installed.
unpack() {
    chmod 755 "$folder"
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root "$@" >/dev/null)
    for deb in "$folder"/*.deb; do dpkg-deb -x "$deb" "$folder/root"; done
    rm "$folder"/*.deb
    LD_LIBRARY_PATH=$(find "$folder/root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
    export LD_LIBRARY_PATH
}

# expect WHAT PATTERN TEXT
expect() {
    grep -Eq -- "$2" <<<"$3" || { printf 'changed: %s: expected /%s/ in:\n%s\n' "$1" "$2" "$3"; exit 1; }
    echo "as expected: $1"
}
