//! Gives every namespace its `default` service account.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;
use crate::{Context, Error, each_change, is_status};

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<String> = Queue::default();
    let (namespaces, accounts) = (informers.of::<Namespace>(), informers.of::<ServiceAccount>());
    let client = context.client.clone();
    let (of_namespace, of_account) = (queue.clone(), queue.clone());
    tokio::join!(
        each_change(namespaces.clone(), cancel.clone(), |namespace| of_namespace.add(namespace.name_any())),
        each_change(accounts.clone(), cancel.clone(), |account| {
            if account.name_any() == "default" {
                of_account.add(account.namespace().unwrap_or_default());
            }
        }),
        queue.clone().run("serviceaccount", 1, cancel.clone(), |name| {
            let wanted = namespaces.get(None, &name).is_some_and(|it| it.metadata.deletion_timestamp.is_none())
                && accounts.get(Some(&name), "default").is_none();
            let client = client.clone();
            async move { if wanted { ensure(client, &name).await } else { Ok(()) } }
        }),
    );
}

async fn ensure(client: Client, namespace: &str) -> Result<(), Error> {
    let api: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let mut account = ServiceAccount::default();
    account.metadata.name = Some("default".to_owned());
    let created = api.create(&PostParams::default(), &account).await;
    if is_status(&created, 409) {
        return Ok(());
    }
    created?;
    Ok(())
}
