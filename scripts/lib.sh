# shellcheck shell=bash
# What the scripts share. Sourced, never run.
set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=${0##*/}

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$NAME" "$*" >&2; exit 1; }

# use_cargo: finds the cargo of rustup even in a shell that was opened before rustup was installed.
use_cargo() {
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null || die 'there is no cargo: install Rust with rustup, then run this again'
}

# as_root CMD...: runs CMD as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root or sudo for: $*"
    fi
}

# missing PKG...: prints those Debian packages that are not installed, one a line.
missing() {
    local p
    for p in "$@"; do
        [ "$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null)" = 'install ok installed' ] || say "$p"
    done
}

# target_dir: where cargo puts what it builds.
target_dir() {
    cargo metadata --manifest-path "$REPO/Cargo.toml" --no-deps --format-version 1 |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}
