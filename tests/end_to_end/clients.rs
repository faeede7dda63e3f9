//! Programs that people use Kubernetes with, as they are released: kubectl, helm, the Python client. The API server
//! stands alone, so nothing here waits for pods.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use k3s_tests::{Cluster, eventually, free_port, kubectl_of_kubernetes};
use tempfile::TempDir;

const APP: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {greeting: hello, other: x}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: 'example.test/web:1', ports: [{containerPort: 80}]}]
";

/// What is typed after `kubectl -n shop`, in this order, and what the answer has in it.
const KUBECTL: &[(&str, &str)] = &[
    ("create namespace shop", "namespace/shop created"),
    ("create configmap a --from-literal=k=v", "configmap/a created"),
    ("create secret generic s --from-literal=p=w", "secret/s created"),
    ("create serviceaccount default", "serviceaccount/default created"),
    ("create serviceaccount robot", "serviceaccount/robot created"),
    ("create role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r created"),
    ("create rolebinding rb --role=r --serviceaccount=shop:robot", "rolebinding.rbac.authorization.k8s.io/rb created"),
    ("apply -f app.yaml", "deployment.apps/web created"),
    ("apply -f app.yaml", "deployment.apps/web unchanged"),
    ("apply --server-side --force-conflicts -f app.yaml", "deployment.apps/web serverside-applied"),
    ("apply view-last-applied deployment/web", "example.test/web:1"),
    ("diff -f app.yaml", ""),
    ("patch configmap conf -p {\"data\":{\"greeting\":\"good_day\"}}", "configmap/conf patched"),
    ("patch configmap conf --type=json -p [{\"op\":\"remove\",\"path\":\"/data/other\"}]", "configmap/conf patched"),
    ("edit configmap conf", "configmap/conf edited"),
    ("get configmap conf -o jsonpath={.data}", r#"{"greeting":"good_evening"}"#),
    ("label deployment web tier=front", "deployment.apps/web labeled"),
    ("annotate deployment web note=x", "deployment.apps/web annotated"),
    ("get deployments -l tier=front -o name", "deployment.apps/web"),
    ("get deployments -o wide", "example.test/web:1"),
    ("scale deployment/web --replicas=3", "deployment.apps/web scaled"),
    ("get deployment web -o jsonpath={.spec.replicas}", "3"),
    ("set image deployment/web web=example.test/web:2", "deployment.apps/web image updated"),
    ("rollout pause deployment/web", "deployment.apps/web paused"),
    ("rollout resume deployment/web", "deployment.apps/web resumed"),
    ("rollout restart deployment/web", "deployment.apps/web restarted"),
    ("autoscale deployment web --min=1 --max=4", "autoscaled"),
    ("expose deployment web --port=80", "service/web exposed"),
    ("describe deployment web", "example.test/web:2"),
    ("describe service web", "Selector:                 app=web"),
    ("wait --for=create configmap/conf --timeout=10s", "condition met"),
    ("wait --for=jsonpath={.spec.replicas}=3 deployment/web --timeout=10s", "condition met"),
    ("auth can-i get pods --as=system:serviceaccount:shop:robot", "yes"),
    ("auth can-i --list --as=system:serviceaccount:shop:robot", "selfsubjectreviews"),
    ("auth whoami", "system:masters"),
    ("create token robot --duration=1h", "ey"),
    ("api-resources --namespaced=true", "ingresses"),
    ("api-versions", "networking.k8s.io/v1"),
    ("explain ingress.spec.rules", "FIELD: rules"),
    ("explain deployment.spec --recursive", "revisionHistoryLimit"),
    ("run p --image=i --dry-run=server -o name", "pod/p"),
    ("create ingress i --rule=a.example/c=web:80", "ingress.networking.k8s.io/i created"),
    ("create job j --image=i", "job.batch/j created"),
    ("create cronjob c --image=i --schedule=@hourly", "cronjob.batch/c created"),
    ("create poddisruptionbudget b --selector=app=web --min-available=1", "poddisruptionbudget.policy/b created"),
    ("get all", "horizontalpodautoscaler.autoscaling/web"),
    ("get events", ""),
    ("cluster-info", "control plane"),
    ("replace --force -f app.yaml", "deployment.apps/web replaced"),
    ("delete -f app.yaml", "deployment.apps \"web\" deleted"),
    ("delete job,cronjob,ingress --all", "job.batch \"j\" deleted"),
    ("delete namespace shop --wait=false", "namespace \"shop\" deleted"),
];

/// What `kubectl -n shop` refuses, and with which words.
const REFUSED: &[(&str, &str)] = &[
    ("create configmap a", "already exists"),
    ("get configmap nothing", "configmaps \"nothing\" not found"),
    ("get nonsense", "the server doesn't have a resource type \"nonsense\""),
    ("diff -f changed.yaml", ""),
    ("auth can-i delete pods --as=system:serviceaccount:shop:robot", ""),
    ("get pods --as=system:serviceaccount:default:nobody", "cannot list resource \"pods\""),
    ("patch deployment web -p {\"spec\":{\"replicas\":\"many\"}}", "unrecognized type: int32"),
    ("scale deployment/web --replicas=-1", "must be"),
];

struct Server {
    cluster: Cluster<'static>,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let args = [
            "--disable-agent",
            "--disable-controller-manager",
            "--disable-scheduler",
            "--bind-address=127.0.0.1",
            &format!("--https-listen-port={port}"),
        ];
        let mut cluster = Cluster::root(folder.path(), &args);
        cluster.spawn();
        eventually("the API answers", Duration::from_secs(60), || cluster.try_kubectl(&["get", "--raw=/readyz"]));
        Self { cluster, folder }
    }

    fn run(&self, program: &Path, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Output {
        Command::new(program)
            .args(args)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", &self.cluster.kubeconfig)
            .env("KUBE_EDITOR", "sed -i s/day/evening/")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn kubectl_as_released_does_its_work() {
    let server = Server::start();
    std::fs::write(server.folder.path().join("app.yaml"), APP).expect("a file");
    let changed = APP.replace("replicas: 2", "replicas: 7");
    std::fs::write(server.folder.path().join("changed.yaml"), changed).expect("a file");
    let kubectl = kubectl_of_kubernetes();
    let typed = |line: &str| server.run(&kubectl, ["-n", "shop"].into_iter().chain(line.split(' ')));
    for (index, (line, want)) in KUBECTL.iter().enumerate() {
        let output = typed(line);
        assert!(output.status.success() && said(&output).contains(want), "kubectl {line}: {}", said(&output));
        // In the middle, when everything is there.
        if index == KUBECTL.len() / 2 {
            for (line, want) in REFUSED {
                let output = typed(line);
                assert!(!output.status.success() && said(&output).contains(want), "kubectl {line}: {}", said(&output));
            }
        }
    }
    proxies(&server, &kubectl);
}

/// `kubectl proxy` answers without credentials.
fn proxies(server: &Server, kubectl: &Path) {
    let port = free_port();
    let mut proxy = Command::new(kubectl)
        .args(["proxy", &format!("--port={port}")])
        .env("KUBECONFIG", &server.cluster.kubeconfig)
        .spawn()
        .expect("a started kubectl");
    let answer = eventually("the proxy answers", Duration::from_secs(20), || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        let request = b"GET /api/v1/namespaces/default HTTP/1.0\r\nHost: localhost\r\n\r\n";
        std::io::Write::write_all(&mut stream, request).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        Ok::<_, String>(answer)
    });
    proxy.kill().expect("a proxy that ran");
    proxy.wait().expect("a proxy that ended");
    assert!(answer.contains("200 OK") && answer.contains("\"Namespace\""), "{answer}");
}

#[test]
fn helm_installs_upgrades_rolls_back_and_removes_a_chart() {
    let server = Server::start();
    let helm = PathBuf::from(std::env::var_os("HELM_BINARY").expect("HELM_BINARY names helm; tests/run sets it"));
    let run = |line: &str| {
        let output = server.run(&helm, line.split(' '));
        assert!(output.status.success(), "helm {line}: {}", said(&output));
        said(&output)
    };
    let replicas = || server.cluster.kubectl(&["get", "deployment", "rel-demo", "-o", "jsonpath={.spec.replicas}"]);
    run("create demo");
    assert!(run("install rel demo").contains("STATUS: deployed"));
    assert_eq!(replicas().trim(), "1");
    run("upgrade rel demo --set replicaCount=3");
    assert_eq!(replicas().trim(), "3");
    run("rollback rel 1");
    assert_eq!(replicas().trim(), "1");
    assert!(run("history rel").contains("Rollback to 1"));
    assert!(run("list").contains("demo-0.1.0"));
    assert!(run("get manifest rel").contains("kind: Deployment"));
    assert!(run("upgrade --install other demo --set autoscaling.enabled=true").contains("STATUS: deployed"));
    for release in ["rel", "other"] {
        assert!(run(&format!("uninstall {release}")).contains("uninstalled"));
    }
    let left = server.cluster.kubectl(&["get", "deployments,services,serviceaccounts,secrets", "-o", "name"]);
    assert!(!left.contains("rel") && !left.contains("other"), "{left}");
}

#[test]
fn the_python_client_does_its_work() {
    let server = Server::start();
    let modules = std::env::var_os("PYTHON_KUBERNETES").expect("PYTHON_KUBERNETES has the client; tests/run sets it");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("end_to_end/client.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(&server.cluster.kubeconfig)
        .env("PYTHONPATH", modules)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3");
    assert!(output.status.success() && said(&output).contains("done"), "{}", said(&output));
}
