use serde_json::json;

use super::*;

const NOW: &str = "2026-01-02T03:04:05Z";

/// An object under test, written by several managers in turn.
struct Subject {
    live: Option<Value>,
    definition: &'static str,
    api_version: &'static str,
    kind: &'static str,
}

impl Subject {
    fn deployment() -> Self {
        Self { live: None, definition: "io.k8s.api.apps.v1.Deployment", api_version: "apps/v1", kind: "Deployment" }
    }

    fn config_map() -> Self {
        Self { live: None, definition: "io.k8s.api.core.v1.ConfigMap", api_version: "v1", kind: "ConfigMap" }
    }

    fn write<T>(&self, manager: &str, subresource: &str, write: impl FnOnce(Writer<'_>) -> T) -> T {
        let schema = crate::schema::definition(self.definition).expect("built in");
        let reset = reset_fields(true, false, subresource);
        let now = crate::time::parse(NOW).expect("a time");
        let (api_version, kind) = (self.api_version, self.kind);
        write(Writer { schema, api_version, kind, subresource, manager, reset: &reset, now })
    }

    fn store(&mut self, mut new: Value) {
        let schema = crate::schema::definition(self.definition).expect("built in");
        presence::normalize(&mut new, schema);
        new["metadata"]["uid"] = "u".into();
        self.live = Some(new);
    }

    fn apply_to(&mut self, manager: &str, subresource: &str, config: Value, force: bool) -> Result<(), Status> {
        let mut config = config;
        config["apiVersion"] = self.api_version.into();
        config["kind"] = self.kind.into();
        config["metadata"]["name"] = "d".into();
        let new = self.write(manager, subresource, |writer| writer.apply(self.live.as_ref(), &config, force))?;
        self.store(new);
        Ok(())
    }

    fn apply(&mut self, manager: &str, config: Value) -> Result<(), Status> {
        self.apply_to(manager, "", config, false)
    }

    fn update(&mut self, manager: &str, subresource: &str, change: impl FnOnce(&mut Value)) {
        let mut new = self.live.clone().unwrap_or_else(|| json!({"metadata": {"name": "d"}}));
        change(&mut new);
        let schema = crate::schema::definition(self.definition).expect("built in");
        presence::normalize(&mut new, schema);
        self.write(manager, subresource, |writer| writer.update(self.live.as_ref(), &mut new));
        self.store(new);
    }

    /// Who owns what, as `manager operation subresource`.
    fn owners(&self) -> Vec<(String, Value)> {
        let entries = self.live.as_ref().and_then(decode).expect("readable entries");
        let name = |e: &Entry| format!("{} {:?} {}", e.manager, e.operation, e.subresource).trim_end().to_owned();
        entries.iter().map(|entry| (name(entry), entry.fields.to_value())).collect()
    }

    fn owned_by(&self, owner: &str) -> Option<Value> {
        self.owners().into_iter().find(|(name, _)| name == owner).map(|(_, fields)| fields)
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        self.live.as_ref()?.pointer(pointer)
    }
}

fn one() -> Value {
    json!({"spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": {
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}],
            "ports": [{"containerPort": 80}]}]}}}})
}

fn without(mut config: Value, path: &str, field: &str) -> Value {
    config.pointer_mut(path).and_then(Value::as_object_mut).expect("an object").remove(field);
    config
}

#[test]
fn an_applied_object_belongs_to_its_applier() {
    let mut d = Subject::deployment();
    d.apply("one", one()).expect("no conflict");
    assert_eq!(
        d.owned_by("one Apply"),
        Some(json!({"f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {},
                "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                "f:image": {}, "f:name": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}))
    );
}

#[test]
fn a_create_owns_what_an_empty_object_lacks() {
    let mut d = Subject::deployment();
    d.update("", "", |new| {
        new["spec"] = json!({"replicas": 1, "selector": {"matchLabels": {"app": "a"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"securityContext": {},
                "containers": [{"name": "c", "resources": {}}]}}});
    });
    assert_eq!(
        d.owners(),
        [(
            "unknown Update".to_owned(),
            json!({"f:spec": {"f:replicas": {}, "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:securityContext": {},
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {}}}}}}})
        )]
    );
    d.update("", "", |new| new["metadata"]["labels"] = json!({"l": "1"}));
    let metadata = |d: &Subject| d.owned_by("unknown Update").map(|fields| fields["f:metadata"].clone());
    assert_eq!(metadata(&d), Some(json!({"f:labels": {".": {}, "f:l": {}}})));
    d.update("", "", |new| new["metadata"]["labels"] = json!({"m": "1"}));
    assert_eq!(metadata(&d), Some(json!({"f:labels": {".": {}, "f:m": {}}})));
}

#[test]
fn conflicts_name_managers_and_fields() {
    let mut d = Subject::deployment();
    d.apply("one", one()).expect("no conflict");
    let conflict = d.apply("two", json!({"spec": {"replicas": 3}})).expect_err("a conflict");
    assert_eq!(conflict.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    assert_eq!(
        serde_json::to_value(&conflict).expect("serializes")["details"],
        json!({"causes": [{"field": ".spec.replicas", "message": "conflict with \"one\"", "reason": "FieldManagerConflict"}]})
    );
    d.apply("two", json!({"spec": {"replicas": 2}})).expect("the same value is shared");
    d.apply_to("two", "", json!({"spec": {"replicas": 3}}), true).expect("forced");
    assert_eq!(d.at("/spec/replicas"), Some(&json!(3)));
    assert_eq!(d.owned_by("one Apply").and_then(|f| f["f:spec"].get("f:replicas").cloned()), None);
    let env = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j",
        "env": [{"name": "A", "value": "5"}]}]}}}});
    assert_eq!(
        d.apply("two", env).expect_err("two conflicts").message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n\
         - .spec.template.spec.containers[name=\"c\"].image\n\
         - .spec.template.spec.containers[name=\"c\"].env[name=\"A\"].value"
    );
    d.update("upd", "", |new| new["spec"]["replicas"] = 7.into());
    let conflict = d.apply("one", one()).expect_err("updated by another");
    assert_eq!(conflict.message, "Apply failed with 1 conflict: conflict with \"upd\" using apps/v1: .spec.replicas");
}

#[test]
fn what_is_applied_no_more_goes_unless_someone_holds_it() {
    let mut d = Subject::deployment();
    d.apply("one", one()).expect("no conflict");
    d.apply("two", json!({"spec": {"replicas": 2}})).expect("shared");
    d.apply("one", without(one(), "/spec", "replicas")).expect("no conflict");
    assert_eq!(d.at("/spec/replicas"), Some(&json!(2)), "two still holds it");
    let side = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}});
    d.apply("two", side).expect("no conflict");
    assert_eq!(d.at("/spec/replicas"), None);
    assert_eq!(d.at("/spec/template/spec/containers/1/name"), Some(&json!("side")));
    d.apply("two", json!({})).expect("no conflict");
    assert_eq!(d.at("/spec/template/spec/containers/1"), None);
    assert_eq!(d.at("/spec/template/spec/containers/0/name"), Some(&json!("c")));
    assert_eq!(d.owned_by("two Apply"), None, "who holds nothing is not listed");
    let ports = json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]);
    let mut config = without(one(), "/spec/template/spec/containers/0", "env");
    config["spec"]["template"]["spec"]["containers"][0]["ports"] = ports;
    d.apply("one", config).expect("no conflict");
    assert_eq!(d.at("/spec/template/spec/containers/0/env"), None);
    assert_eq!(d.at("/spec/template/spec/containers/0/ports/1/protocol"), Some(&json!("UDP")));
}

#[test]
fn sets_and_maps_merge() {
    let mut c = Subject::config_map();
    c.apply(
        "a",
        json!({"data": {"a": "1"}, "metadata": {"finalizers": ["e.example/1"], "ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "11"}]}}),
    )
    .expect("no conflict");
    assert_eq!(
        c.owned_by("a Apply"),
        Some(json!({"f:data": {"f:a": {}}, "f:metadata": {"f:finalizers": {"v:\"e.example/1\"": {}},
            "f:ownerReferences": {"k:{\"uid\":\"11\"}": {}}}}))
    );
    c.apply("b", json!({"data": {"b": "2"}, "metadata": {"finalizers": ["e.example/2"]}})).expect("no conflict");
    assert_eq!(c.at("/metadata/finalizers"), Some(&json!(["e.example/1", "e.example/2"])));
    c.apply("a", json!({})).expect("no conflict");
    assert_eq!(c.at("/metadata/finalizers"), Some(&json!(["e.example/2"])));
    assert_eq!(c.at("/data"), Some(&json!({"b": "2"})));
    assert_eq!(c.at("/metadata/ownerReferences"), None);
    assert_eq!(c.owners().len(), 1);
}

#[test]
fn status_and_spec_are_written_apart() {
    let mut d = Subject::deployment();
    d.apply("one", one()).expect("no conflict");
    d.update("st", "status", |new| {
        new["spec"]["replicas"] = 9.into();
        new["status"] = json!({"observedGeneration": 1, "replicas": 1});
    });
    assert_eq!(
        d.owned_by("st Update status"),
        Some(json!({"f:status": {"f:observedGeneration": {}, "f:replicas": {}}}))
    );
    assert!(d.owned_by("one Apply").is_some_and(|fields| fields["f:spec"].get("f:replicas").is_some()));
    let conflict = d.apply_to("st2", "status", json!({"status": {"replicas": 2}}), false).expect_err("owned by st");
    assert!(
        conflict.message.ends_with("conflict with \"st\" with subresource \"status\" using apps/v1: .status.replicas")
    );
    d.apply_to("st2", "status", json!({"status": {"readyReplicas": 0, "replicas": 2}}), true).expect("forced");
    assert_eq!(d.owned_by("st Update status"), Some(json!({"f:status": {"f:observedGeneration": {}}})));
    assert_eq!(d.owned_by("st2 Apply status"), Some(json!({"f:status": {"f:readyReplicas": {}, "f:replicas": {}}})));
    d.update("sc", "scale", |new| new["spec"]["replicas"] = 4.into());
    assert_eq!(d.owned_by("sc Update scale"), Some(json!({"f:spec": {"f:replicas": {}}})));
}

#[test]
fn managers_can_be_forgotten() {
    let mut d = Subject::deployment();
    d.apply("one", one()).expect("no conflict");
    d.update("one", "", |new| new["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(d.at("/metadata/managedFields"), None);
    d.update("one", "", |new| new["spec"]["replicas"] = 5.into());
    assert_eq!(d.at("/metadata/managedFields"), None, "not tracked again");
    d.apply("two", json!({"metadata": {"labels": {"l": "1"}}})).expect("no conflict");
    assert_eq!(
        d.owners().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["two Apply", "before-first-apply Update"]
    );
    d.update("one", "", |new| new["metadata"].as_object_mut().map(|m| m.remove("managedFields")).map_or((), drop));
    assert_eq!(d.owners().len(), 2, "leaving them out keeps them");
}

#[test]
fn a_configuration_must_fit() {
    let mut d = Subject::deployment();
    let error = |status: Status| (status.code, status.message);
    let wrong = |d: &Subject, config: Value| {
        d.write("one", "", |w| w.apply(None, &config, false)).map_err(error).expect_err("wrong")
    };
    assert_eq!(wrong(&d, json!({"kind": "Deployment"})), (400, "invalid object type: /, Kind=Deployment".to_owned()));
    assert_eq!(
        d.apply("one", json!({"spec": {"bogus": 1}})).map_err(error),
        Err((500, "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.bogus: field not declared in schema".to_owned()))
    );
    let message =
        |d: &mut Subject, config: Value| d.apply("one", config).map_err(|status| status.message).expect_err("wrong");
    assert!(
        message(&mut d, json!({"spec": {"replicas": "x"}}))
            .ends_with(".spec.replicas: expected numeric (int or float), got string")
    );
    let pod = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    assert!(message(&mut d, pod(json!([{"image": "i"}]))).ends_with(
        ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)"));
    assert!(
        message(&mut d, pod(json!([{"name": "i"}, {"name": "i"}])))
            .ends_with(".spec.template.spec.containers: duplicate entries for key [name=\"i\"]")
    );
    assert_eq!(message(&mut d, json!({"metadata": {"managedFields": []}})), "metadata.managedFields must be nil");
}

#[test]
fn applying_again_changes_nothing() {
    let mut d = Subject::deployment();
    d.apply("one", one()).expect("no conflict");
    let before = d.live.clone();
    d.apply("one", one()).expect("no conflict");
    assert_eq!(d.live, before);
    let mut later = before.clone().expect("an object");
    later["metadata"]["managedFields"][0]["time"] = "2027-01-01T00:00:00Z".into();
    assert!(keep_times(&before.clone().expect("an object"), &mut later));
    assert_eq!(Some(later), before);
}

#[test]
fn list_order_follows_the_applier() {
    let mut d = Subject::deployment();
    let pod = |names: &[&str]| {
        let containers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    };
    d.apply("one", pod(&["a", "b", "c"])).expect("no conflict");
    d.apply("two", pod(&["x", "c", "a"])).expect("no conflict");
    let names: Vec<_> = d
        .at("/spec/template/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|container| container["name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(names, ["b", "x", "c", "a"]);
}

#[test]
fn too_many_updaters_become_ancient() {
    let mut c = Subject::config_map();
    for index in 0..14 {
        c.update(&format!("m{index:02}"), "", |new| new["data"][format!("k{index}")] = "v".into());
    }
    let owners = c.owners();
    assert_eq!(owners.len(), 10);
    let ancient = c.owned_by("ancient-changes Update").expect("put together");
    assert_eq!(ancient["f:data"].as_object().map(serde_json::Map::len), Some(6), "{ancient}");
}

#[test]
fn kubectl_takes_over_from_its_client_side_self() {
    let mut c = Subject::config_map();
    let last = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"},"data":{"a":"1"}}"#;
    c.update("kubectl-client-side-apply", "", |new| {
        new["metadata"]["annotations"] = json!({LAST_APPLIED: last});
        new["data"] = json!({"a": "1", "b": "1"});
    });
    assert!(c.apply("other", json!({"data": {"a": "2"}})).is_err());
    assert!(c.apply("kubectl", json!({"data": {"b": "2"}})).is_err(), "not what it applied");
    c.apply("kubectl", json!({"data": {"a": "2"}})).expect("its own");
    assert_eq!(c.at("/data/a"), Some(&json!("2")));
    let record = c.at("/metadata/annotations").and_then(|a| a[LAST_APPLIED].as_str()).expect("kept");
    assert!(record.contains("\"a\":\"2\""), "{record}");
}

#[test]
fn names_of_managers_come_from_the_user_agent() {
    assert_eq!(manager_name("x", "kubectl/v1"), "x");
    assert_eq!(manager_name("", "kubectl/v1.36 (linux/amd64)"), "kubectl");
    assert_eq!(manager_name("", ""), "");
    assert_eq!(field_manager_causes("", true)[0].message, "Required value: is required for apply patch");
    assert!(field_manager_causes("ok", true).is_empty());
}
