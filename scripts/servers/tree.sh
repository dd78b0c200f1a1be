# shellcheck shell=bash
# Small Debian trees for the servers whose packages conflict with Dovecot's. Sourced, never run.
#
# A tree is made once (a minute or two, 300 to 500 MB) under $IMAPFS_SERVERS, by default ~/.cache/imapfs-servers. The
# server runs in it with mount and pid namespaces of its own, on the host's loopback: nothing is mounted, installed or
# left running outside it. Needs root: an ordinary user is sent through sudo.

if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || die 'must run as root (or with sudo that asks no password): it uses chroot and namespaces'
    exec sudo -n --preserve-env=IMAPFS_SERVERS,IMAPFS_KEEP,XDG_CACHE_HOME,HOME "$0" "$@"
fi
unshare --mount --pid --fork --kill-child true 2>/dev/null ||
    die 'mount and pid namespaces are not to be had here (a container without CAP_SYS_ADMIN?)'

# server_tree NAME SUITE PKG...: makes the tree if it is not there; sets ROOT.
server_tree() {
    local name=$1 suite=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    shift 2
    ROOT=$SERVER_CACHE/$name
    [ -e "$ROOT/.ready" ] && return
    mkdir -p "$SERVER_CACHE"
    exec 9>"$SERVER_CACHE/lock"
    flock 9
    if [ ! -e "$ROOT/.ready" ]; then
        command -v debootstrap >/dev/null || die 'debootstrap is not installed: run scripts/setup'
        # The mirror that this machine's own apt uses.
        # shellcheck disable=SC2016  # apt's variables
        mirror=${IMAPFS_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
            grep -v security | head -n 1)}
        [ -n "$mirror" ] || die 'no Debian mirror known: set IMAPFS_MIRROR to the URL of one'
        say "$NAME: making the tree $ROOT (once)" >&2
        rm -rf "$ROOT"
        # Packages that only a full system needs are left out; policy-rc.d keeps any service from being started.
        debootstrap --variant=minbase --keyring=$keyring "$suite" "$ROOT" "$mirror" >"$ROOT.log" 2>&1 ||
            { tail -n 5 "$ROOT.log" >&2; die 'debootstrap failed'; }
        printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d"
        chmod 755 "$ROOT/usr/sbin/policy-rc.d"
        printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$ROOT/etc/dpkg/dpkg.cfg.d/small"
        unshare --pid --fork --kill-child chroot "$ROOT" \
            /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C \
            sh -c 'apt-get update && apt-get install -y --no-install-recommends "$@" && apt-get clean' sh "$@" \
            >>"$ROOT.log" 2>&1 || { tail -n 20 "$ROOT.log" >&2; die 'apt-get in the tree failed'; }
        touch "$ROOT/.ready"
    fi
    flock -u 9
    exec 9>&-
}

# server_spawn_root: runs DIR/start.sh, as /srv/start.sh, in ROOT.
#
# The new mount namespace begins as a copy of the host's, so it would keep each FUSE mount of that moment alive after it
# was unmounted on the host. pivot_root and the umount after it leave nothing but the tree.
server_spawn_root() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    server_spawn unshare --mount --pid --fork --kill-child=KILL -- sh -c '
        set -e
        mount --bind "$1" "$1"
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        mount -t tmpfs -o mode=755 tmpfs "$1/run"
        mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
        mount --bind "$2" "$1/srv"
        cd "$1"
        pivot_root . .
        umount -l .
        exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C /bin/sh /srv/start.sh
    ' sh "$ROOT" "$DIR"
}

# server_listens: whether the listener of PORT lives in our pid namespace. Nothing else tells two servers apart whose
# greeting cannot be configured.
server_listens() {
    local inode ours pid fd
    inode=$(awk -v port=":$(printf %04X "$PORT")" '$4 == "0A" && index($2, port) { print $10 }' /proc/net/tcp)
    ours=$(readlink "/proc/$(cat "$DIR/pid")/ns/pid_for_children")
    for pid in /proc/[0-9]*; do
        [ "$(readlink "$pid/ns/pid" 2>/dev/null)" = "$ours" ] || continue
        for fd in "$pid"/fd/*; do
            [ "$(readlink "$fd" 2>/dev/null)" != "socket:[$inode]" ] || return 0
        done
    done
    return 1
}
