//! Programs that people use Kubernetes with, as they are released: kubectl, helm, the Python client. The API server
//! stands alone, so nothing here waits for pods.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
    ("create deployment made --image=i --replicas=2 --port=80", "deployment.apps/made created"),
    ("create service clusterip made --tcp=80:8080", "service/made created"),
    ("create service nodeport np --tcp=80 --node-port=31999", "service/np created"),
    ("create service loadbalancer lb --tcp=80", "service/lb created"),
    ("create service externalname ext --external-name=example.com", "service/ext created"),
    // Nobody counts here, so that a quota of what is made below would refuse it.
    ("create quota q --hard=replicationcontrollers=9", "resourcequota/q created"),
    ("describe quota q", "Namespace:  shop"),
    ("create clusterrole kubectl-cr --verb=get,list --resource=pods,deployments.apps", "kubectl-cr created"),
    ("create clusterrolebinding kubectl-crb --clusterrole=kubectl-cr --user=ann", "kubectl-crb created"),
    ("auth can-i list deployments.apps --as=ann", "yes"),
    ("create priorityclass kubectl-high --value=1000 --description=x", "kubectl-high created"),
    ("create secret tls t --cert=tls.crt --key=tls.key", "secret/t created"),
    ("create secret docker-registry d --docker-username=u --docker-password=p", "secret/d created"),
    ("describe secret d", "kubernetes.io/dockerconfigjson"),
    ("set env deployment/made GREETING=hello", "deployment.apps/made env updated"),
    ("set env deployment/made --list", "GREETING=hello"),
    ("set resources deployment/made --limits=cpu=1,memory=64Mi", "resource requirements updated"),
    ("set serviceaccount deployment/made robot", "serviceaccount updated"),
    ("set selector service/made tier=back", "service/made selector updated"),
    ("set subject rolebinding/rb --user=ann", "subjects updated"),
    ("label deployment made tier=back --overwrite", "labeled"),
    ("label deployment made tier-", "unlabeled"),
    ("annotate deployment made note=y", "annotated"),
    ("patch deployment made --subresource=status --type=merge -p {\"status\":{\"replicas\":2}}", "patched"),
    ("get deployment made --subresource=scale", "made"),
    ("get deployments --sort-by=.metadata.name -o custom-columns=N:.metadata.name --no-headers", "made"),
    ("get deployment made -o yaml --show-managed-fields", "manager: kubectl-create"),
    ("rollout history deployment/made", "deployment.apps/made"),
    ("apply set-last-applied -f app.yaml --create-annotation", "set-last-applied"),
    ("apply -f crd.yaml", "wheels.shop.example created"),
    ("wait --for=condition=Established crd/wheels.shop.example --timeout=20s", "condition met"),
    ("apply --server-side -f wheel.yaml", "wheel.shop.example/front serverside-applied"),
    ("get wheels", "front   17"),
    ("explain wheel.spec.size", "how wide it is"),
    ("scale wheel/front --replicas=3", "wheel.shop.example/front scaled"),
    ("describe wheel front", "Size:"),
    ("delete -f crd.yaml", "deleted"),
    ("apply -f node.yaml", "node/kubectl-node created"),
    ("taint node kubectl-node dedicated=x:NoSchedule", "node/kubectl-node tainted"),
    ("describe node kubectl-node", "dedicated=x:NoSchedule"),
    ("taint node kubectl-node dedicated-", "node/kubectl-node untainted"),
    ("cordon kubectl-node", "node/kubectl-node cordoned"),
    ("get node kubectl-node", "SchedulingDisabled"),
    ("drain kubectl-node --ignore-daemonsets --force", "node/kubectl-node drained"),
    ("uncordon kubectl-node", "node/kubectl-node uncordoned"),
    ("run waits --image=i --labels=a=b", "pod/waits created"),
    ("describe pod waits", "Node-Selectors:"),
    ("debug waits --image=i --target=waits --attach=false -q", ""),
    ("get pod waits -o jsonpath={.spec.ephemeralContainers[*].image}", "i"),
    ("certificate approve kubectl-csr", "approved"),
    ("get csr kubectl-csr", "Approved"),
    ("delete pod waits --now", "pod \"waits\" deleted"),
    ("delete node/kubectl-node csr/kubectl-csr priorityclass/kubectl-high", "deleted"),
    ("delete clusterrole/kubectl-cr clusterrolebinding/kubectl-crb", "deleted"),
    ("kustomize .", "ConfigMap"),
    ("apply -k .", "configmap/of-kustomize"),
    ("version", "Server Version: v1.36"),
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
    ("top pods", "Metrics API not available"),
    ("create poddisruptionbudget two --selector=a=b --min-available=1 --max-unavailable=1", "cannot be both specified"),
    ("apply --server-side --field-manager=other -f changed.yaml", "conflict with \"kubectl"),
    ("delete configmap nothing", "not found"),
    ("create -f unknown-field.yaml", "unknown field \"spec.replicass\""),
];

/// Files that the commands name.
const FILES: &[(&str, &str)] = &[
    (
        "crd.yaml",
        r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: wheels.shop.example}
spec:
  group: shop.example
  scope: Namespaced
  names: {plural: wheels, singular: wheel, kind: Wheel}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, description: how wide it is}
              replicas: {type: integer}
          status: {type: object, properties: {replicas: {type: integer}}}
",
    ),
    (
        "wheel.yaml",
        "apiVersion: shop.example/v1\nkind: Wheel\nmetadata: {name: front}\nspec: {size: 17, replicas: 1}\n",
    ),
    ("node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: kubectl-node}\n"),
    (
        "unknown-field.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: u}\nspec: {replicass: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n",
    ),
    (
        "kustomization.yaml",
        "configMapGenerator: [{name: of-kustomize, literals: [a=b], options: {disableNameSuffixHash: true}}]\n",
    ),
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
    for (name, text) in FILES {
        std::fs::write(server.folder.path().join(name), text).expect("a file");
    }
    openssl(&server, "req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -subj /CN=shop -days 1");
    openssl(&server, "req -new -key tls.key -subj /CN=ann -out ann.csr");
    signing_request(&server);
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

fn openssl(server: &Server, line: &str) {
    let output = server.run(Path::new("openssl"), line.split(' '));
    assert!(output.status.success(), "openssl {line}: {}", said(&output));
}

/// A request for a certificate, which somebody is to approve.
fn signing_request(server: &Server) {
    let request = std::fs::read(server.folder.path().join("ann.csr")).expect("openssl has made it");
    let object = serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "kubectl-csr"},
        "spec": {"request": STANDARD.encode(request), "signerName": "shop.example/clients", "usages": ["client auth"]},
    });
    let file = server.folder.path().join("csr.json");
    std::fs::write(&file, object.to_string()).expect("a file");
    server.cluster.kubectl(&["create", "-f", &file.to_string_lossy()]);
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
