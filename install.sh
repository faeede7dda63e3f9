#!/bin/sh
# Builds k3s from this checkout, installs it and starts it: rootless, unless told otherwise.
#
#   ./install.sh [server|agent] [flags]            as an ordinary user: a cluster of that user
#   sudo ./install.sh [server|agent] [flags]       as root: a cluster of $SUDO_USER
#   INSTALL_K3S_USER=edge ./install.sh             as root: a cluster of that user, who is made if need be
#   INSTALL_K3S_ROOTFUL=true ./install.sh          as root: the classic system service
#   ./install.sh --flag, sh -s - server --flag     flags go to k3s
#
# With systemd, a unit is enabled and started: k3s-rootless of the user, or k3s of the system. Without, k3s runs in the
# background, with a pid file and a log in the data directory. What was installed is removed by k3s-uninstall.sh, and
# k3s-killall.sh ends k3s and its pods. Both stand beside the binary. A second run changes nothing.
#
# As for k3s:
#   INSTALL_K3S_EXEC            command and flags, before those of the command line
#   INSTALL_K3S_NAME            the unit is k3s-NAME (rootful; rootless k3s-rootless-NAME)
#   INSTALL_K3S_TYPE            systemd's type of the unit (notify)
#   INSTALL_K3S_BIN_DIR         where the binary goes (/usr/local/bin, or ~/.local/bin for an ordinary user)
#   INSTALL_K3S_BIN_DIR_READ_ONLY=true  nothing is written there; implies INSTALL_K3S_SKIP_DOWNLOAD
#   INSTALL_K3S_SYSTEMD_DIR     where the unit goes
#   INSTALL_K3S_SYMLINK         links kubectl: '' where no such command is, 'skip' never, 'force' always
#   INSTALL_K3S_SKIP_DOWNLOAD=true  takes the binary that is there: builds nothing
#   INSTALL_K3S_SKIP_ENABLE=true    does not enable or start the unit
#   INSTALL_K3S_SKIP_START=true     does not start it
#   INSTALL_K3S_FORCE_RESTART=true  restarts it even if nothing has changed
#   K3S_*                       is kept for the service, in a file that only its user may read
set -eu
umask 022
checkout=$(cd "$(dirname "$0")" && pwd)

say() { printf '[k3s] %s\n' "$*"; }
fail() { printf '[k3s] error: %s\n' "$*" >&2; exit 1; }
is_true() { [ "${1:-false}" = true ]; }

# --- who, where, what ------------------------------------------------------------------------------------------------

root=false
[ "$(id -u)" != 0 ] || root=true
rootful=false
if is_true "${INSTALL_K3S_ROOTFUL:-}"; then
    $root || fail "INSTALL_K3S_ROOTFUL=true needs root; run: sudo INSTALL_K3S_ROOTFUL=true $0"
    rootful=true
fi
if $rootful; then
    user=root
elif $root; then
    user=${INSTALL_K3S_USER:-${SUDO_USER:-k3s}}
    [ "$user" != root ] || user=k3s
else
    user=$(id -un)
    [ "${INSTALL_K3S_USER:-$user}" = "$user" ] || fail "only root can install for another user ($INSTALL_K3S_USER)"
fi
if $root; then bin_dir=/usr/local/bin; else bin_dir=$HOME/.local/bin; fi
bin_dir=${INSTALL_K3S_BIN_DIR:-$bin_dir}
case $bin_dir in /*) ;; *) fail "INSTALL_K3S_BIN_DIR=$bin_dir is no absolute path" ;; esac
systemd=false
[ ! -d /run/systemd/system ] || systemd=true

# The command is the first word that is no flag; without one it is an agent where K3S_URL names a server.
# shellcheck disable=SC2086 # words, as with k3s
set -- ${INSTALL_K3S_EXEC:-} "$@"
case ${1:-} in
    '' | -*) if [ -n "${K3S_URL:-}" ]; then command=agent; else command=server; fi ;;
    *) command=$1; shift ;;
esac
case $command in
    server | agent) ;;
    *) fail "k3s $command is no service; give server or agent, or flags alone" ;;
esac
$rootful || set -- --rootless "$@"
name=k3s
$rootful || name=k3s-rootless
if [ -n "${INSTALL_K3S_NAME:-}" ]; then
    name=$name-$INSTALL_K3S_NAME
elif [ "$command" = agent ]; then
    name=$name-agent
fi
case $name in *[!a-zA-Z0-9_.-]*) fail "INSTALL_K3S_NAME=$INSTALL_K3S_NAME: letters, digits, - and _ only" ;; esac

# --- what building and running need: command, Debian package ---------------------------------------------------------

skip_build=false
if is_true "${INSTALL_K3S_SKIP_DOWNLOAD:-}" || is_true "${INSTALL_K3S_BIN_DIR_READ_ONLY:-}"; then skip_build=true; fi
missing=
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }
if ! $skip_build; then
    need cc gcc
    need protoc protobuf-compiler
    # What the definitions of gRPC interfaces are made of; it has no command of its own.
    [ -e /usr/include/google/protobuf/descriptor.proto ] || missing="$missing libprotobuf-dev"
fi
if ! $rootful; then
    need slirp4netns slirp4netns
    need newuidmap uidmap
fi
need setpriv util-linux
if [ -n "$missing" ]; then
    $root || fail "not installed:$missing; run: sudo apt-get install$missing"
    command -v apt-get >/dev/null 2>&1 || fail "not installed:$missing; install them with this system's package tool"
    say "installing$missing"
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086 # one word a package
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >/dev/null
fi

# --- the user ----------------------------------------------------------------------------------------------------------

made_user=false
if $root && ! $rootful; then
    if ! id "$user" >/dev/null 2>&1; then
        say "making user $user"
        useradd --create-home --shell /bin/sh "$user"
        made_user=true
    fi
    for file in subuid subgid; do
        if ! grep -q "^$user:" "/etc/$file" 2>/dev/null; then
            # The first range that nobody has.
            first=$(awk -F: 'BEGIN { next_free = 100000 } $2 + $3 > next_free { next_free = $2 + $3 } END { print next_free }' "/etc/$file" 2>/dev/null || echo 100000)
            usermod "--add-${file}s" "$first-$((first + 65535))" "$user"
        fi
    done
    if [ -e /dev/net/tun ]; then chmod 0666 /dev/net/tun; fi
fi
home=$(getent passwd "$user" | cut -d: -f6)
uid=$(id -u "$user")
[ -d "$home" ] || fail "user $user has no home folder ($home); make it with: mkhomedir_helper $user"

as_user() {
    if $root && ! $rootful; then
        setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups --reset-env -- \
            env XDG_RUNTIME_DIR="/run/user/$uid" "$@"
    else
        env XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$uid}" "$@"
    fi
}

if $rootful; then
    state=/var/lib/rancher/k3s
    unit_dir=${INSTALL_K3S_SYSTEMD_DIR:-/etc/systemd/system}
    environment=$unit_dir/$name.service.env
    kubeconfig=/etc/rancher/k3s/k3s.yaml
    target=multi-user.target
    template=$checkout/systemd/k3s.service
    control() { systemctl "$@"; }
else
    state=$home/.rancher/k3s
    unit_dir=${INSTALL_K3S_SYSTEMD_DIR:-$home/.config/systemd/user}
    environment=$home/.config/k3s/$name.env
    kubeconfig=$home/.kube/k3s.yaml
    target=default.target
    template=$checkout/systemd/k3s-rootless.service
    control() { as_user systemctl --user "$@"; }
fi
pid_file=$state/k3s.pid
log=$state/k3s.log

# The user's systemd, which runs from boot to shutdown for a user who lingers.
if $systemd && ! $rootful; then
    if $root; then
        loginctl enable-linger "$user"
        delegate=/etc/systemd/system/user@.service.d/k3s.conf
        if [ ! -e "$delegate" ] && ! grep -qw cpu "/sys/fs/cgroup/user.slice/user-$uid.slice/user@$uid.service/cgroup.controllers" 2>/dev/null; then
            say "delegating cgroup controllers to users ($delegate)"
            mkdir -p "${delegate%/*}"
            printf '# Made by k3s, for limits of rootless pods.\n[Service]\nDelegate=cpu cpuset io memory pids\n' >"$delegate"
            systemctl daemon-reload
        fi
    elif [ ! -e "/var/lib/systemd/linger/$user" ] && ! loginctl enable-linger 2>/dev/null; then
        say "the cluster will end when you log out; keep it with: sudo loginctl enable-linger $user"
    fi
    waited=0
    until control show-environment >/dev/null 2>&1; do
        if [ "$waited" -ge 30 ]; then
            say "the systemd of user $user does not answer; k3s runs in the background without it"
            systemd=false
            break
        fi
        sleep 1
        waited=$((waited + 1))
    done
fi

# --- the binary --------------------------------------------------------------------------------------------------------

changed=false
# Puts standard input at a path if that differs. Beside it and then in its place: what runs keeps its file. In the user's
# home the user does it, since root would follow whatever link the user has put there.
put() { # put MODE PATH
    # Not in a pipe: that would be a shell of its own, whose variables are lost.
    put_as=
    case $2 in "$home"/*) put_as=as_user ;; esac
    put_new=$2.k3s-new
    # shellcheck disable=SC2016 # expanded by the inner shell
    $put_as sh -c 'umask 077; cat >"$1"' sh "$put_new"
    if $put_as cmp -s "$put_new" "$2"; then
        $put_as rm -f "$put_new"
        return
    fi
    $put_as chmod "$1" "$put_new"
    $put_as mv "$put_new" "$2"
    changed=true
    say "installed $2"
}
make_folder() { # with its parents, of the user where it is in the user's home
    case $1 in "$home"/*) as_user mkdir -p "$1" ;; *) mkdir -p "$1" ;; esac
}

if $skip_build; then
    [ -x "$bin_dir/k3s" ] || fail "INSTALL_K3S_SKIP_DOWNLOAD: there is no $bin_dir/k3s; leave it out to build one"
else
    command -v cargo >/dev/null 2>&1 || fail "cargo is not installed; see https://rustup.rs"
    cd "$checkout"
    say "building (the first time takes minutes)"
    cargo build --release --locked --package k3s
    built=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$(rustc -vV | sed -n 's/^host: //p')/release/k3s
    make_folder "$bin_dir"
    put 0755 "$bin_dir/k3s" <"$built"
fi

link_kubectl() {
    [ "${INSTALL_K3S_SYMLINK:-}" != skip ] || return 0
    [ "$(readlink "$bin_dir/kubectl" 2>/dev/null)" != k3s ] || return 0
    if [ "${INSTALL_K3S_SYMLINK:-}" != force ]; then
        if [ -e "$bin_dir/kubectl" ] || command -v kubectl >/dev/null 2>&1; then return 0; fi
    fi
    case $bin_dir in "$home"/*) as_user ln -sf k3s "$bin_dir/kubectl" ;; *) ln -sf k3s "$bin_dir/kubectl" ;; esac
    say "linked $bin_dir/kubectl"
}

# --- k3s-killall.sh and k3s-uninstall.sh -------------------------------------------------------------------------------

# A word for the shell, as it is.
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }
settings() {
    for setting in name user uid rootful systemd state pid_file environment kubeconfig bin_dir made_user; do
        eval "value=\$$setting"
        # shellcheck disable=SC2154 # set by eval
        printf '%s=%s\n' "$setting" "$(quoted "$value")"
    done
    printf 'unit=%s\n' "$(quoted "$unit_dir/$name.service")"
    cat <<'END'
[ "$(id -u)" = 0 ] || [ "$(id -u)" = "$uid" ] || { echo "run this as $user or root" >&2; exit 1; }
control() {
    if [ "$rootful" = true ]; then
        systemctl "$@"
    elif [ "$(id -u)" = "$uid" ]; then
        XDG_RUNTIME_DIR=/run/user/$uid systemctl --user "$@"
    else
        setpriv --reuid "$uid" --regid "$(id -g "$user")" --init-groups env XDG_RUNTIME_DIR="/run/user/$uid" \
            systemctl --user "$@"
    fi
}
END
}
killall_script() {
    printf '#!/bin/sh\n# Ends k3s and its pods. Their data stays. Written by install.sh.\n'
    settings
    cat <<'END'
if [ "$systemd" = true ] && [ -e "$unit" ]; then control stop "$name.service"; fi
# A process whose arguments begin so, in case the pid in a file was given to another since.
is() { # is PID WORDS
    [ -e "/proc/$1/cmdline" ] || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -q -E "$2"
}
# Ends a process: SIGTERM, and after a while SIGKILL.
end() {
    kill "$1" 2>/dev/null || return 0
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 1
    done
    kill -KILL "$1" 2>/dev/null || true
}
if [ -f "$pid_file" ]; then
    pid=$(cat "$pid_file")
    if is "$pid" '^[^ ]*k3s (server|agent)'; then end "$pid"; fi
    rm -f "$pid_file"
fi
if [ "$rootful" != true ]; then
    # The namespaces' first process: with it goes everything inside.
    if [ -f "$state/rootless/init.json" ]; then
        pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$state/rootless/init.json")
        if [ -n "$pid" ] && is "$pid" '^[^ ]*k3s rootless-init'; then
            kill -KILL "$pid"
            # Its files are free when it is gone.
            while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        fi
    fi
    exit 0
fi
# Shims of this host's root, whose containers the kernel ends with them. Rootless clusters have user namespaces of their own.
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$(readlink "$process/ns/user" 2>/dev/null)" = "$(readlink /proc/self/ns/user)" ] || continue
    is "$pid" '^[^ ]*k3s shim /run/k3s/runtime/' || continue
    # Another machine's, in a container of this host, has its folder elsewhere.
    sandbox=$(tr '\0' '\n' 2>/dev/null <"$process/cmdline" | sed -n 3p)
    if [ -d "$sandbox" ]; then kill -KILL "$pid"; fi
done
# Deepest first.
awk '{ print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
    case $mount in /run/k3s/* | "$state"/agent/kubelet/pods/*) umount "$mount" || true ;; esac
done
nft delete table inet k3s 2>/dev/null || true
for link in cni0 flannel.1; do ip link delete "$link" 2>/dev/null || true; done
find /sys/fs/cgroup/kubepods -depth -type d -exec rmdir {} + 2>/dev/null || true
exit 0
END
}
uninstall_script() {
    printf '#!/bin/sh\n# Removes k3s, its data and what install.sh made. Written by install.sh.\nset -u\n'
    settings
    cat <<'END'
"$bin_dir/k3s-killall.sh" || exit 1
if [ "$systemd" = true ] && [ -e "$unit" ]; then
    control disable "$name.service"
    rm -f "$unit"
    control daemon-reload
    control reset-failed "$name.service" 2>/dev/null || true
fi
rm -f "$unit" "$environment" "$kubeconfig"
# Volumes and layers have files of sub-ids, which only root of the user's own namespace, or the host's, may remove.
if [ "$(id -u)" = 0 ] || [ "$rootful" = true ]; then
    rm -rf "$state"
elif command -v unshare >/dev/null 2>&1 && unshare --map-auto --map-root-user rm -rf "$state" 2>/dev/null; then
    :
else
    rm -rf "$state" || echo "files of sub-ids are left in $state; remove them with: sudo rm -rf $state" >&2
fi
[ "$rootful" != true ] || rm -rf /run/k3s /etc/rancher/k3s
[ "$(readlink "$bin_dir/kubectl" 2>/dev/null)" != k3s ] || rm -f "$bin_dir/kubectl"
if [ "$(id -u)" = 0 ]; then
    delegate=/etc/systemd/system/user@.service.d/k3s.conf
    [ ! -e "$delegate" ] || rm -f "$delegate"
    if [ "$made_user" = true ]; then
        loginctl disable-linger "$user" 2>/dev/null || true
        userdel --remove "$user" 2>/dev/null || echo "user $user is left; remove it with: userdel --remove $user" >&2
    fi
fi
rm -f "$bin_dir/k3s" "$bin_dir/k3s-killall.sh" "$bin_dir/k3s-uninstall.sh"
END
}
if ! is_true "${INSTALL_K3S_BIN_DIR_READ_ONLY:-}"; then
    # A user that an earlier run has made is still ours to remove.
    # shellcheck disable=SC2034 # read by settings
    if grep -q "^made_user='true'" "$bin_dir/k3s-uninstall.sh" 2>/dev/null; then made_user=true; fi
    link_kubectl
    put 0755 "$bin_dir/k3s-killall.sh" <<END
$(killall_script)
END
    put 0755 "$bin_dir/k3s-uninstall.sh" <<END
$(uninstall_script)
END
fi

# --- the service -------------------------------------------------------------------------------------------------------

# K3S_* and proxies, as systemd reads them and as the shell does.
environment_text() {
    env | sed -n -e '/^K3S_[A-Z0-9_]*=/p' -e '/^\(HTTP\|HTTPS\|NO\|http\|https\|no\)_proxy=/p' -e '/^\(HTTP\|HTTPS\|NO\)_PROXY=/p' | sort |
        while IFS= read -r line; do printf '%s=%s\n' "${line%%=*}" "$(quoted "${line#*=}")"; done
}
make_folder "${environment%/*}"
put 0600 "$environment" <<END
$(environment_text)
END

# A word for ExecStart=: quoted, with systemd's own escapes.
unit_word() { printf ' "%s"' "$(printf '%s' "$1" | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/%/%%/g' -e 's/\$/$$/g')"; }
unit_text() {
    exec="ExecStart=\"$bin_dir/k3s\" $command"
    for word in "$@"; do exec="$exec$(unit_word "$word")"; done
    printf '# Written by install.sh.\n'
    # awk's own variables would have their backslashes read.
    EXEC=$exec ENVIRONMENT=$environment TARGET=$target TYPE=${INSTALL_K3S_TYPE:-notify} awk '
        /^ExecStart=/ { print ENVIRON["EXEC"]; next }
        /^EnvironmentFile=.*k3s/ { print "EnvironmentFile=-" ENVIRON["ENVIRONMENT"]; next }
        /^WantedBy=/ { print "WantedBy=" ENVIRON["TARGET"]; next }
        /^Type=/ { print "Type=" ENVIRON["TYPE"]; next }
        { print }' "$template"
}

is_ready() { as_user "$bin_dir/k3s" kubectl --kubeconfig "$kubeconfig" get nodes 2>/dev/null | grep -q ' Ready '; }
runs() { [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null && grep -q k3s "/proc/$(cat "$pid_file")/cmdline" 2>/dev/null; }

if $systemd; then
    make_folder "$unit_dir"
    put 0644 "$unit_dir/$name.service" <<END
$(unit_text "$@")
END
    if $changed; then control daemon-reload; fi
    if is_true "${INSTALL_K3S_SKIP_ENABLE:-}"; then exit 0; fi
    control --quiet enable "$name.service"
    if is_true "${INSTALL_K3S_SKIP_START:-}"; then exit 0; fi
    if ! $changed && ! is_true "${INSTALL_K3S_FORCE_RESTART:-}" && control --quiet is-active "$name.service"; then
        say "$name runs already, and nothing has changed"
    else
        say "starting $name.service"
        # Pods keep running.
        control restart "$name.service" || fail "$name does not start; see: journalctl $($rootful || printf %s '--user ')-u $name"
    fi
    alive() { control --quiet is-active "$name.service"; }
    last_words() { journalctl --no-pager -n 20 "_SYSTEMD_UNIT=$name.service" + "_SYSTEMD_USER_UNIT=$name.service" >&2 || true; }
else
    if is_true "${INSTALL_K3S_SKIP_ENABLE:-}" || is_true "${INSTALL_K3S_SKIP_START:-}"; then exit 0; fi
    if runs && { $changed || is_true "${INSTALL_K3S_FORCE_RESTART:-}"; }; then
        say "restarting k3s; pods keep running"
        old=$(cat "$pid_file")
        kill "$old"
        waited=0
        while kill -0 "$old" 2>/dev/null; do
            [ "$waited" -lt 30 ] || fail "k3s (pid $old) does not end; end it with: kill -9 $old"
            sleep 1
            waited=$((waited + 1))
        done
    fi
    if runs; then
        say "k3s runs already (pid $(cat "$pid_file"))"
    else
        make_folder "$state"
        say "starting k3s $command of user $user; its log is $log"
        # shellcheck disable=SC2016 # expanded by the inner shell
        as_user sh -c 'umask 077; cd "$HOME"; log=$1; pid_file=$2; set -a; . "$3"; set +a; shift 3; setsid nohup "$@" >>"$log" 2>&1 </dev/null & echo $! >"$pid_file"' \
            sh "$log" "$pid_file" "$environment" "$bin_dir/k3s" "$command" "$@"
    fi
    alive() { runs; }
    last_words() { tail -n 20 "$log" >&2; }
fi

# --- until it serves ---------------------------------------------------------------------------------------------------

if [ "$command" = agent ]; then
    sleep 2
    alive || { last_words; fail "k3s agent ended; the end of its log is above"; }
    say "started; its node appears on the server"
    exit 0
fi
waited=0
until is_ready; do
    alive || { last_words; fail "k3s ended; the end of its log is above"; }
    [ "$waited" -lt 120 ] || { last_words; fail "the node is not ready after $waited s; the end of the log is above"; }
    sleep 1
    waited=$((waited + 1))
done
say "ready: KUBECONFIG=$kubeconfig $bin_dir/k3s kubectl get pods -A"
