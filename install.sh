#!/bin/sh
# Builds k3s from this checkout, installs it and starts a rootless cluster.
#
#   ./install.sh [server flags]                    as an ordinary user: a cluster of that user
#   sudo ./install.sh [server flags]               as root: a cluster of $SUDO_USER
#   INSTALL_K3S_USER=edge ./install.sh             as root: a cluster of that user, who is made if need be
#
# INSTALL_K3S_BIN_DIR  where the binary goes (/usr/local/bin, or ~/.local/bin for an ordinary user)
# INSTALL_K3S_SKIP_START=true  installs without starting
set -eu
cd "$(dirname "$0")"

say() { printf '[k3s] %s\n' "$*"; }
fail() { printf '[k3s] error: %s\n' "$*" >&2; exit 1; }

root=false
[ "$(id -u)" != 0 ] || root=true
if $root; then
    user=${INSTALL_K3S_USER:-${SUDO_USER:-k3s}}
    [ "$user" != root ] || user=k3s
    bin_dir=${INSTALL_K3S_BIN_DIR:-/usr/local/bin}
else
    user=$(id -un)
    [ "${INSTALL_K3S_USER:-$user}" = "$user" ] || fail "only root can install for another user ($INSTALL_K3S_USER)"
    bin_dir=${INSTALL_K3S_BIN_DIR:-$HOME/.local/bin}
fi

# What building and running need: command, Debian package.
missing=
while read -r command package; do
    command -v "$command" >/dev/null 2>&1 || missing="$missing $package"
done <<EOF
cc gcc
protoc protobuf-compiler
slirp4netns slirp4netns
newuidmap uidmap
setpriv util-linux
EOF
if [ -n "$missing" ]; then
    $root || fail "not installed:$missing; run: sudo apt-get install$missing"
    command -v apt-get >/dev/null 2>&1 || fail "not installed:$missing; install them with this system's package tool"
    say "installing$missing"
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086 # one word a package
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >/dev/null
fi
command -v cargo >/dev/null 2>&1 || fail "cargo is not installed; see https://rustup.rs"

if $root; then
    if ! id "$user" >/dev/null 2>&1; then
        say "making user $user"
        useradd --create-home --shell /bin/sh "$user"
    fi
    for file in subuid subgid; do
        if ! grep -q "^$user:" "/etc/$file" 2>/dev/null; then
            # The first range that nobody has.
            first=$(awk -F: 'BEGIN { next_free = 100000 } $2 + $3 > next_free { next_free = $2 + $3 } END { print next_free }' "/etc/$file" 2>/dev/null || echo 100000)
            usermod "--add-${file}s" "$first-$((first + 65535))" "$user"
        fi
    done
    if [ -e /dev/net/tun ]; then chmod 0666 /dev/net/tun; fi
    if command -v loginctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then loginctl enable-linger "$user"; fi
fi
home=$(getent passwd "$user" | cut -d: -f6)
[ -d "$home" ] || fail "user $user has no home folder ($home)"

say "building (the first time takes minutes)"
cargo build --release --locked --package k3s
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
built=$target/$(rustc -vV | sed -n 's/^host: //p')/release/k3s
mkdir -p "$bin_dir"
if ! cmp -s "$built" "$bin_dir/k3s"; then
    # Beside it and then in its place: a running k3s keeps its file.
    install -m 0755 "$built" "$bin_dir/.k3s.new"
    mv "$bin_dir/.k3s.new" "$bin_dir/k3s"
    say "installed $bin_dir/k3s"
fi
[ "${INSTALL_K3S_SKIP_START:-false}" != true ] || exit 0

as_user() {
    if $root; then
        setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups --reset-env -- "$@"
    else
        "$@"
    fi
}

kubeconfig=$home/.kube/k3s.yaml
state=$home/.rancher/k3s
is_ready() { as_user "$bin_dir/k3s" kubectl --kubeconfig "$kubeconfig" get nodes 2>/dev/null | grep -q ' Ready '; }
pid_file=$state/k3s.pid
runs() { [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null && grep -q k3s "/proc/$(cat "$pid_file")/cmdline" 2>/dev/null; }

if runs; then
    say "k3s runs already (pid $(cat "$pid_file"))"
else
    as_user mkdir -p "$state"
    log=$state/k3s.log
    say "starting a cluster of user $user; its log is $log"
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_user sh -c 'umask 077; cd "$HOME"; log=$1; pid_file=$2; shift 2; setsid nohup "$@" >>"$log" 2>&1 </dev/null & echo $! >"$pid_file"' \
        sh "$log" "$pid_file" "$bin_dir/k3s" server --rootless "$@"
fi
waited=0
until is_ready; do
    runs || { tail -n 20 "$state/k3s.log" >&2; fail "k3s ended; the end of its log is above"; }
    [ "$waited" -lt 120 ] || { tail -n 20 "$state/k3s.log" >&2; fail "the node is not ready after $waited s; the end of the log is above"; }
    sleep 1
    waited=$((waited + 1))
done
say "ready: KUBECONFIG=$kubeconfig $bin_dir/k3s kubectl get pods -A"
