//! Acting as somebody else, for everything or for some actions.

use http::StatusCode;
use k3s_apiserver::audit::{Config as Audit, log};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn cluster() -> Cluster {
    let cluster = Cluster::start(|config, folder| {
        let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], \
                      rules: [{level: Metadata}]}";
        std::fs::write(folder.join("policy.yaml"), policy).unwrap();
        let log = log::Options::new(folder.join("audit.log"));
        config.audit = Some(Audit { policy_file: folder.join("policy.yaml"), log: Some(log), webhook: None });
    })
    .await;
    for namespace in ["a", "b"] {
        let namespace = json!({"metadata": {"name": namespace}});
        assert_eq!(cluster.post("admin", "/api/v1/namespaces", namespace).await.0, StatusCode::CREATED);
    }
    cluster
}

/// Gives a user a right in namespace `a`, or everywhere.
async fn grant(cluster: &Cluster, name: &str, user: &str, namespaced: bool, rules: Value) {
    let place = if namespaced { "/namespaces/a" } else { "" };
    let (role, binding) = if namespaced { ("roles", "rolebindings") } else { ("clusterroles", "clusterrolebindings") };
    let kind = if namespaced { "Role" } else { "ClusterRole" };
    let object = json!({"metadata": {"name": name}, "rules": rules});
    let bound = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    for (resource, object) in [(role, object), (binding, bound)] {
        let (code, answer) = cluster.post("admin", &format!("{RBAC}{place}/{resource}"), object).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
}

fn rule(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

#[tokio::test]
async fn each_part_of_the_other_s_identity_takes_its_own_permission() {
    let cluster = cluster().await;
    let reviews = rule("authentication.k8s.io", &["selfsubjectreviews"], &[], &["create"]);
    grant(&cluster, "who", "boss", false, json!([reviews])).await;
    let all = [
        ("impersonate-user", "boss"),
        ("impersonate-group", "devs"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-example.com%2fscopes", "view"),
    ];
    let authentication = "authentication.k8s.io";
    let rights = [
        rule("", &["users"], &["boss"], &["impersonate"]),
        rule("", &["groups"], &["devs"], &["impersonate"]),
        rule(authentication, &["uids"], &["7"], &["impersonate"]),
        rule(authentication, &["userextras/example.com/scopes"], &["view"], &["impersonate"]),
    ];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    for given in 0..=rights.len() {
        let (code, answer) = cluster.post_with("jane", &all, path, json!({})).await;
        if given < rights.len() {
            assert_eq!(code, StatusCode::FORBIDDEN, "{given}: {answer}");
            let wanted = ["users \"boss\"", "groups \"devs\"", "uids.authentication.k8s.io \"7\"", "userextras"][given];
            assert!(answer["message"].as_str().unwrap().starts_with(wanted), "{given}: {answer}");
            grant(&cluster, &format!("right-{given}"), "jane", false, json!([rights[given]])).await;
            continue;
        }
        assert_eq!(code, StatusCode::CREATED, "{answer}");
        assert_eq!(
            answer["status"]["userInfo"],
            json!({"username": "boss", "uid": "7", "groups": ["devs", "system:authenticated"],
                "extra": {"example.com/scopes": ["view"]}})
        );
    }
}

#[tokio::test]
async fn impersonation_may_be_for_some_actions_alone() {
    let cluster = cluster().await;
    let reads = rule("", &["pods", "secrets"], &[], &["get", "list"]);
    grant(&cluster, "boss", "boss", false, json!([reads])).await;
    let as_boss = [("impersonate-user", "boss")];
    let pods = async |namespace: &str| {
        cluster.get_with("jane", &as_boss, &format!("/api/v1/namespaces/{namespace}/pods")).await.0
    };
    assert_eq!(pods("a").await, StatusCode::FORBIDDEN);
    // The identity alone, or the action alone, is not enough.
    let on = rule("", &["pods"], &[], &["impersonate-on:user-info:list"]);
    grant(&cluster, "on", "jane", true, json!([on])).await;
    assert_eq!(pods("a").await, StatusCode::FORBIDDEN);
    let identity = rule("authentication.k8s.io", &["users"], &["boss"], &["impersonate:user-info"]);
    grant(&cluster, "identity", "jane", false, json!([identity])).await;
    assert_eq!(pods("a").await, StatusCode::OK);
    // Neither elsewhere, nor other things, nor as another one.
    assert_eq!(pods("b").await, StatusCode::FORBIDDEN);
    let (code, answer) = cluster.get_with("jane", &as_boss, "/api/v1/namespaces/a/secrets").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let message = "users \"boss\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" \
                   at the cluster scope";
    assert_eq!(answer["message"], message);
    let in_group = [as_boss[0], ("impersonate-group", "devs")];
    assert_eq!(cluster.get_with("jane", &in_group, "/api/v1/namespaces/a/pods").await.0, StatusCode::FORBIDDEN);

    cluster.server.close_audit().await;
    let text = std::fs::read_to_string(cluster.folder.path().join("audit.log")).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let constrained: Vec<_> = events.iter().filter(|event| event.get("authenticationMetadata").is_some()).collect();
    assert_eq!(constrained.len(), 1);
    assert_eq!(constrained[0]["authenticationMetadata"], json!({"impersonationConstraint": "impersonate:user-info"}));
    assert_eq!(
        (&constrained[0]["user"]["username"], &constrained[0]["impersonatedUser"]["username"]),
        (&json!("jane"), &json!("boss"))
    );
}

#[tokio::test]
async fn service_accounts_and_nodes_are_impersonated_by_verbs_of_their_own() {
    let cluster = cluster().await;
    let account = "system:serviceaccount:a:robot";
    grant(&cluster, "robot", account, true, json!([rule("", &["pods"], &[], &["list"])])).await;
    let as_robot = [("impersonate-user", account)];
    let as_node = [("impersonate-user", "system:node:n1")];
    let pods = "/api/v1/namespaces/a/pods";
    let authentication = "authentication.k8s.io";
    grant(
        &cluster,
        "as-robot",
        "jane",
        true,
        json!([
            rule(authentication, &["serviceaccounts"], &["robot"], &["impersonate:serviceaccount"]),
            rule("", &["pods"], &[], &["impersonate-on:serviceaccount:list"]),
        ]),
    )
    .await;
    assert_eq!(cluster.get_with("jane", &as_robot, pods).await.0, StatusCode::OK);
    let other = [("impersonate-user", "system:serviceaccount:a:other")];
    assert_eq!(cluster.get_with("jane", &other, pods).await.0, StatusCode::FORBIDDEN);
    // Groups of one's own choice are not the account's.
    let grouped = [as_robot[0], ("impersonate-group", "system:masters")];
    assert_eq!(cluster.get_with("jane", &grouped, pods).await.0, StatusCode::FORBIDDEN);

    grant(
        &cluster,
        "as-node",
        "jane",
        false,
        json!([
            rule(authentication, &["nodes"], &["n1"], &["impersonate:arbitrary-node"]),
            rule("", &["services"], &[], &["impersonate-on:arbitrary-node:list"]),
        ]),
    )
    .await;
    // The Node authorizer lets nodes do that.
    assert_eq!(cluster.get_with("jane", &as_node, "/api/v1/services").await.0, StatusCode::OK);
    assert_eq!(cluster.get_with("jane", &as_node, "/api/v1/nodes/n1").await.0, StatusCode::FORBIDDEN);
    let other = [("impersonate-user", "system:node:n2")];
    assert_eq!(cluster.get_with("jane", &other, "/api/v1/services").await.0, StatusCode::FORBIDDEN);
}
