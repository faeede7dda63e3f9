//! Publishes the API server's certificate authority in every namespace, as config map `kube-root-ca.crt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;
use crate::{Context, Error, each_change, is_status};

const NAME: &str = "kube-root-ca.crt";

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<String> = Queue::default();
    let namespaces = informers.of::<Namespace>();
    // Only the config maps of this name: a cache of all of them would hold the users' data for nothing.
    let maps = informers.of_selected::<ConfigMap>("", &format!("metadata.name={NAME}"));
    let client = context.client.clone();
    let (of_namespace, of_map) = (queue.clone(), queue.clone());
    tokio::join!(
        each_change(namespaces.clone(), cancel.clone(), |namespace| of_namespace.add(namespace.name_any())),
        each_change(maps.clone(), cancel.clone(), |map| of_map.add(map.namespace().unwrap_or_default())),
        queue.clone().run("root-ca-certificate-publisher", 1, cancel.clone(), |name| {
            let wanted = namespaces.get(None, &name).is_some_and(|it| it.metadata.deletion_timestamp.is_none());
            let current = maps.get(Some(&name), NAME);
            let (client, context) = (client.clone(), context.clone());
            async move {
                if wanted { publish(client, &context.config.root_ca, &name, current.as_deref()).await } else { Ok(()) }
            }
        }),
    );
}

async fn publish(client: Client, ca: &str, namespace: &str, current: Option<&ConfigMap>) -> Result<(), Error> {
    let data = BTreeMap::from([("ca.crt".to_owned(), ca.to_owned())]);
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let result = match current {
        Some(map) if map.data.as_ref() == Some(&data) => return Ok(()),
        Some(map) => {
            let mut map = map.clone();
            map.data = Some(data);
            api.replace(NAME, &PostParams::default(), &map).await
        }
        None => {
            let mut map = ConfigMap { data: Some(data), ..ConfigMap::default() };
            map.metadata.name = Some(NAME.to_owned());
            map.metadata.annotations = Some(BTreeMap::from([(
                "kubernetes.io/description".to_owned(),
                "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such \
                 as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                 distributions of Kubernetes clusters."
                    .to_owned(),
            )]));
            api.create(&PostParams::default(), &map).await
        }
    };
    // Somebody else was faster, or the namespace is going: its next change brings the key back.
    if is_status(&result, 409) || is_status(&result, 404) || is_status(&result, 403) {
        return Ok(());
    }
    result?;
    Ok(())
}
