//! What a pod can ask of its namespaces and volumes, in a cluster where the web application runs.

use std::process::Command;
use std::time::Duration;

use k3s_tests::{Cluster, eventually, kubectl_of_kubernetes};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A pod with users of its own.
const USERS: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: users}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: example.test/web:1
    command: [/bin/sh, -c, 'id -u; touch /scratch/made; exec sleep 10000']
    volumeMounts:
    - {name: page, mountPath: /www}
    - {name: scratch, mountPath: /scratch}
  volumes:
  - {name: page, configMap: {name: page, defaultMode: 256}}
  - {name: scratch, emptyDir: {}}
";

/// A pod that has an image as a volume.
const IMAGE: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: image}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: example.test/web:1
    command: [/bin/sh, -c, 'cat /volume/etc/passwd /part/index.html; touch /volume/x']
    volumeMounts:
    - {name: web, mountPath: /volume}
    - {name: web, mountPath: /part, subPath: www}
  volumes:
  - {name: web, image: {reference: 'example.test/web:1', pullPolicy: IfNotPresent}}
";

/// Works with such pods. Pods with users of their own are only for root's nodes; others say why.
pub fn check(cluster: &Cluster, of_root: bool) {
    cluster.kubectl_input(&["apply", "-f", "-"], USERS);
    cluster.kubectl_input(&["apply", "-f", "-"], IMAGE);
    debug_a_target(cluster);
    let ended = wait(cluster, "image", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 1);
    let said = cluster.kubectl(&["logs", "image"]);
    for wanted in ["web:x:1000", "hello\n", "touch: /volume/x: Read-only file system"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let node = &cluster.get(&["nodes"])["items"][0];
    assert_eq!(node["status"]["features"]["supplementalGroupsPolicy"], true);
    let features = &node["status"]["runtimeHandlers"][0]["features"];
    assert_eq!(features["recursiveReadOnlyMounts"], true);
    assert_eq!(features["userNamespaces"], of_root);
    if of_root {
        users(cluster)
    } else {
        no_users(cluster)
    }
    cluster.kubectl(&["delete", "pod", "users", "image", "--wait=true"]);
}

fn wait(cluster: &Cluster, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("pod {name} is as it should be"), LIMIT, || {
        let pod = cluster.get(&["pod", name]);
        if is(&pod) { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
}

fn users(cluster: &Cluster) {
    wait(cluster, "users", |pod| pod["status"]["phase"] == "Running");
    let exec = |script: &str| cluster.kubectl(&["exec", "users", "--", "/bin/sh", "-c", script]);
    assert_eq!(exec("id -u").trim(), "0");
    let map = exec("cat /proc/self/uid_map");
    let fields: Vec<u32> = map.split_whitespace().map(|field| field.parse().expect("a number")).collect();
    assert!(fields[0] == 0 && fields[1] >= 65536 && fields[1].is_multiple_of(65536) && fields[2] == 65536, "{map}");
    assert!(exec("cat /www/index.html").contains("from a config map"));
    assert!(exec("head -c 3 /var/run/secrets/kubernetes.io/serviceaccount/token").contains("eyJ"));
    exec("test -O /scratch/made && test -O /etc/hosts && echo x > /dev/termination-log");
    assert_eq!(cluster.kubectl(&["logs", "users"]).trim(), "0");
    let both = USERS.replace("hostUsers: false", "hostUsers: false\n  hostNetwork: true").replace("users}", "both}");
    let path = cluster.log.with_file_name("both.yaml");
    std::fs::write(&path, both).expect("a manifest");
    let refused = cluster.try_kubectl(&["apply", "-f", &path.display().to_string()]).expect_err("a refusal");
    assert!(refused.contains("spec.hostNetwork: Forbidden: when `hostUsers` is false"), "{refused}");
}

fn no_users(cluster: &Cluster) {
    eventually("the event says why the pod does not run", LIMIT, || {
        let events = cluster.kubectl(&["get", "events", "--field-selector=involvedObject.name=users"]);
        let told = events.contains("FailedCreatePodSandBox") && events.contains("hostUsers: false");
        if told && events.contains("rootless") { Ok(()) } else { Err(events) }
    });
}

/// A container added to a pod of the web application sees the processes of the one that it is to look at.
fn debug_a_target(cluster: &Cluster) {
    let name = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    let output = Command::new(kubectl_of_kubernetes())
        .arg("--kubeconfig")
        .arg(&cluster.kubeconfig)
        .args(["debug", &name, "--target=web", "--container=debugger", "--image=example.test/web:1", "--attach=false"])
        .args(["--", "/bin/sh", "-c", "ps; cat /proc/1/cmdline"])
        .output()
        .expect("kubectl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait(cluster, &name, |pod| pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0);
    let seen = cluster.kubectl(&["logs", &name, "-c", "debugger"]);
    assert!(seen.contains("/bin/httpd"), "{seen}");
}
