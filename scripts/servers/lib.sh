# shellcheck shell=bash
# What the server scripts share. Sourced, never run.
#
# Each script is called as   NAME DIR [--watch]   and starts one private server on 127.0.0.1, on ports that the kernel
# chose. All state is in DIR: env (shell assignments: IMAP_PORT, IMAP_TLS_PORT, IMAP_CA, IMAP_USER, IMAP_PASSWORD,
# IMAP_PID …), pid, log, tls/. The script returns when the server greets; `stop DIR` ends it. With --watch the script
# prints `ready`, stays until its standard input ends, then stops the server and removes DIR: so the server lives no
# longer than who started it, however that one ends.
#
# Users: alice (wonderland), bob (builder), and u1, u2, … (wonderland), for tests that want an account of their own.
#
# A script sets: server_configure (writes the configuration for PORT and TLS_PORT into DIR), server_launch (starts
# it, by server_spawn or server_spawn_root), and server_is_ours LINE (whether that greeting is from this very server).
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

SERVER_CACHE=${IMAPFS_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/imapfs-servers}

# server_main NAME ARG...: the whole life of a server.
server_main() {
    local server=$1 attempt watch=''
    shift
    [ $# -ge 1 ] || die "usage: $NAME DIR [--watch]"
    mkdir -p "$1"
    DIR=$(cd "$1" && pwd)
    [ "${2:-}" = --watch ] && watch=1
    chmod 755 "$DIR"
    if server_alive; then die "already running in $DIR as pid $(cat "$DIR/pid")"; fi
    rm -f "$DIR/pid" "$DIR/env"
    if [ -n "$watch" ]; then
        # Ctrl-C reaches the whole process group; the end of standard input is what counts.
        trap '' INT
        trap 'server_end' EXIT
    fi
    server_certificates
    for attempt in 1 2 3 4 5; do
        server_ports
        server_configure
        server_launch
        if server_ready; then
            server_env "$server"
            if [ -n "$watch" ]; then
                say ready
                cat >/dev/null
            fi
            return 0
        fi
        # Somebody took the port between the choice and the use of it: another one. Cyrus goes on without, and says nothing.
        server_alive || grep -qiE 'address already in use|unable to bind' "$DIR/log" || break
        server_stop
        mv "$DIR/log" "$DIR/log.$attempt"
    done
    tail -n 20 "$DIR/log" >&2
    die "$server did not start"
}

server_end() {
    server_stop
    [ -n "${IMAPFS_KEEP:-}" ] || rm -rf "$DIR"
}

# server_ports: sets PORT and TLS_PORT to two ports that are free now.
server_ports() {
    # shellcheck disable=SC2016  # Perl's variables
    read -r PORT TLS_PORT < <(perl -MIO::Socket::INET -e '
        my @s = map { IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die "no port: $!" } 1 .. 2;
        print join(" ", map { $_->sockport } @s), "\n";')
}

# server_certificates: a private CA and a certificate for localhost in DIR/tls, kept if present.
server_certificates() {
    local t=$DIR/tls
    [ -s "$t/server.pem" ] && return
    mkdir -p "$t"
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -sha256 \
            -subj '/CN=imapfs test CA' -keyout "$t/ca.key" -out "$t/ca.pem" \
            -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign'
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -subj '/CN=localhost' \
            -keyout "$t/server.key" -out "$t/server.csr"
        printf '%s\n' 'basicConstraints=CA:FALSE' 'keyUsage=critical,digitalSignature' \
            'extendedKeyUsage=serverAuth' 'subjectAltName=DNS:localhost,IP:127.0.0.1' >"$t/extensions"
        openssl x509 -req -in "$t/server.csr" -CA "$t/ca.pem" -CAkey "$t/ca.key" -CAcreateserial -days 30 \
            -sha256 -out "$t/server.crt" -extfile "$t/extensions"
    } 2>"$t/log" || { cat "$t/log" >&2; die 'openssl failed'; }
    cat "$t/server.key" "$t/server.crt" "$t/ca.pem" >"$t/combined.pem"
    mv "$t/server.crt" "$t/server.pem"
    chmod 755 "$t"
    chmod 644 "$t"/* # the servers read it as users of their own; it is worth nothing
}

# server_spawn CMD...: starts CMD in a session of its own, its output to DIR/log.
server_spawn() {
    setsid "$@" >>"$DIR/log" 2>&1 </dev/null &
    echo $! >"$DIR/pid"
    disown # bash is not to report how it ended
}

# server_ready: waits for the greeting on PORT; fails when the server is dead or silent.
server_ready() {
    local i line
    for ((i = 0; i < 300; i++)); do
        server_alive || return 1
        line=''
        if { exec 8<>"/dev/tcp/127.0.0.1/$PORT"; } 2>/dev/null; then
            IFS= read -r -t 5 line <&8 2>/dev/null || line=''
            case $line in '* OK'*)
                if server_is_ours "$line"; then
                    exec 8>&-
                    return 0
                fi ;;
            esac
            exec 8>&-
        fi
        sleep 0.05
    done
    return 1
}

server_env() {
    cat >"$DIR/env" <<END
IMAP_SERVER=$1
IMAP_HOST=localhost
IMAP_PORT=$PORT
IMAP_TLS_PORT=$TLS_PORT
IMAP_CA=$DIR/tls/ca.pem
IMAP_USER=alice
IMAP_PASSWORD=wonderland
IMAP_USER2=bob
IMAP_PASSWORD2=builder
IMAP_PID=$(cat "$DIR/pid")
END
}

server_alive() {
    [ -s "$DIR/pid" ] || return 1
    local state
    state=$(sed 's/.*) //' "/proc/$(cat "$DIR/pid")/stat" 2>/dev/null) || return 1
    [ "${state%% *}" != Z ]
}

# server_stop: ends what DIR/pid names, and waits for it.
server_stop() {
    local i pid
    if server_alive; then
        pid=$(cat "$DIR/pid")
        # unshare takes its whole pid namespace along when it is killed; it passes no TERM on.
        if [ "$(cat "/proc/$pid/comm")" = unshare ]; then
            kill -KILL "$pid" || true
        else
            kill -TERM "$pid" || true
        fi
        for ((i = 0; i < 100; i++)); do
            server_alive || break
            sleep 0.05
        done
        kill -KILL -- "-$pid" 2>/dev/null || true
    fi
    rm -f "$DIR/pid"
}
