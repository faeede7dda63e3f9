# Functions of the scenarios.
uid=$(id -u edge)
KUBECONFIG=/home/edge/.kube/k3s.yaml

# A command of user edge, with the user's bus.
user() { runuser -u edge -- env XDG_RUNTIME_DIR=/run/user/$uid HOME=/home/edge PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$@"; }
kubectl() { k3s kubectl --kubeconfig "$KUBECONFIG" "$@"; }
# No process of k3s, its pods' shims included, is left. (The bracket keeps grep from finding itself.)
ended() { ! grep -qs '[k]3s' /proc/[0-9]*/cmdline; }
# Until the command succeeds.
await() {
    n=0
    until "$@" >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 180 ] || { echo "never: $*"; return 1; }
        sleep 0.5
    done
}
active() { user systemctl --user is-active k3s-rootless; }
log() { journalctl -b --no-pager -o cat _UID=$uid; }
# Where the cluster's cgroup is.
scope() { ls -d /sys/fs/cgroup/user.slice/user-$uid.slice/user@$uid.service/app.slice/k3s-*.scope | head -n 1; }
# A pod is accepted when its namespace's service account is there.
apply() { await kubectl apply -f "$1"; }
running() { kubectl get pod "$1" -o json | grep -q '"phase": *"Running"' ; }
# The cgroup of a pod's container.
cgroup() {
    id=$(kubectl get pod "$1" -o json | sed -n 's|.*"containerID": *"[a-z0-9-]*://\([0-9a-f]*\)".*|\1|p' | head -n 1)
    find /sys/fs/cgroup -type d -name "$id" | grep . || { echo "no cgroup of $1 ($id)" >&2; return 1; }
}
# What a client in the network namespace elsewhere is told by UDP.
ask_udp() {
    ip netns exec elsewhere perl -MIO::Socket::INET -e '
        $s = IO::Socket::INET->new(PeerAddr => shift, Proto => "udp") or die;
        alarm 5; $s->send("who?"); $s->recv($answer, 64); print $answer' "$1"
}
# What k3s-killall.sh does for a rootless cluster: its init ends, and everything inside with it.
end_pods() {
    for file in $(grep -ls '[r]ootless-init' /proc/[0-9]*/cmdline); do
        pid=${file#/proc/}
        kill -KILL "${pid%/cmdline}"
    done
}
report() {
    journalctl -b --no-pager -o short-monotonic | tail -n 60
    tail -n 30 /tmp/*.log 2>/dev/null
    kubectl get pods -A 2>&1
    systemd-cgls --no-pager 2>&1 | tail -n 60
}
