//! An API server with nothing but lists and watches.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;

use futures::stream::{self, StreamExt};
use http::{Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Objects by path of their kind; every change has a revision, and watchers read the log of changes.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    revision: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
struct State {
    objects: HashMap<&'static str, BTreeMap<String, Value>>,
    log: Vec<(&'static str, Value)>,
}

const NODES: &str = "/api/v1/nodes";
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

impl Api {
    /// With one Node, `here`, whose pod CIDR is 10.42.0.0/24.
    pub fn new() -> Self {
        let api = Self { state: Arc::default(), revision: Arc::new(watch::channel(0).0) };
        api.put(
            NODES,
            json!({"metadata": {"name": "here"}, "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]}}),
        );
        api
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(&request)) }
        });
        kube::Client::new(service, "default")
    }

    /// A Service of namespace `default`.
    pub fn service(&self, name: &str, spec: Value) {
        self.put(SERVICES, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}));
    }

    /// The endpoints (address, node) of a service's unnamed TCP and UDP ports.
    pub fn endpoints(&self, service: &str, port: u16, endpoints: &[(&str, &str)]) {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(ip, node)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}}))
            .collect();
        let metadata = json!({
            "name": format!("{service}-1"), "namespace": "default", "labels": {"kubernetes.io/service-name": service},
        });
        let ports = json!([
            {"name": "tcp", "port": port, "protocol": "TCP"}, {"name": "udp", "port": port, "protocol": "UDP"},
        ]);
        self.put(SLICES, json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}));
    }

    pub fn delete_service(&self, name: &str) {
        let mut state = self.state.lock().expect("not poisoned");
        let mut object = state.objects.get_mut(SERVICES).and_then(|all| all.remove(name)).expect("is there");
        object["metadata"]["resourceVersion"] = json!((state.log.len() + 1).to_string());
        state.log.push((SERVICES, json!({"type": "DELETED", "object": object})));
        self.revision.send_replace(state.log.len());
    }

    fn put(&self, path: &'static str, mut object: Value) {
        let mut state = self.state.lock().expect("not poisoned");
        object["metadata"]["resourceVersion"] = json!((state.log.len() + 1).to_string());
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let old = state.objects.entry(path).or_default().insert(name, object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        state.log.push((path, json!({"type": kind, "object": object})));
        self.revision.send_replace(state.log.len());
    }

    fn answer(&self, request: &Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
        let uri = request.uri();
        let Some(path) = [NODES, SERVICES, SLICES].into_iter().find(|path| *path == uri.path()) else {
            return Response::builder().status(404).body(Full::default().boxed()).expect("a response");
        };
        let query: HashMap<_, _> =
            uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        if query.get("watch").is_some_and(|watch| *watch == "true" || *watch == "1") {
            let from = query.get("resourceVersion").and_then(|rv| rv.parse().ok()).unwrap_or(0);
            return Response::new(BoxBody::new(StreamBody::new(self.changes(path, from))));
        }
        let state = self.state.lock().expect("not poisoned");
        let items: Vec<_> = state.objects.get(path).into_iter().flat_map(BTreeMap::values).collect();
        let list = json!({"metadata": {"resourceVersion": state.log.len().to_string()}, "items": items});
        Response::new(Full::from(list.to_string()).boxed())
    }

    fn changes(
        &self,
        path: &'static str,
        from: usize,
    ) -> impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync + 'static {
        let (state, revision) = (self.state.clone(), self.revision.subscribe());
        stream::unfold((state, revision, from), move |(state, mut revision, seen)| async move {
            revision.wait_for(|now| *now > seen).await.ok()?;
            let (lines, seen) = {
                let state = state.lock().expect("not poisoned");
                let new = state.log[seen..].iter().filter(|(of, _)| *of == path);
                (new.map(|(_, event)| format!("{event}\n")).collect::<String>(), state.log.len())
            };
            Some((lines, (state, revision, seen)))
        })
        .filter(|lines| futures::future::ready(!lines.is_empty()))
        .map(|lines| Ok(Frame::data(Bytes::from(lines))))
    }
}
