"""What a program written with the Python client of Kubernetes does: client.py KUBECONFIG."""

import sys
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException


def refused(status, call, *arguments):
    try:
        call(*arguments)
    except ApiException as error:
        assert error.status == status, error
    else:
        raise AssertionError(f"{call.__name__}{arguments} was not refused")


config.load_kube_config(sys.argv[1])
core, apps, custom = client.CoreV1Api(), client.AppsV1Api(), client.CustomObjectsApi()
assert client.VersionApi().get_code().git_version.startswith("v1.36.")

core.create_namespace({"metadata": {"name": "py"}})
named = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a", labels={"x": "1"}), data={"k": "v"})
core.create_namespaced_config_map("py", named)
refused(409, core.create_namespaced_config_map, "py", named)
assert [found.metadata.name for found in core.list_namespaced_config_map("py", label_selector="x=1").items] == ["a"]

revision = core.list_namespaced_config_map("py").metadata.resource_version
core.patch_namespaced_config_map("a", "py", {"data": {"k": "w"}})
watching = watch.Watch()
for event in watching.stream(core.list_namespaced_config_map, "py", resource_version=revision, timeout_seconds=20):
    assert (event["type"], event["object"].data) == ("MODIFIED", {"k": "w"})
    watching.stop()

apps.create_namespaced_deployment("py", {
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    },
})
scale = apps.read_namespaced_deployment_scale("d", "py")
scale.spec.replicas = 3
apps.replace_namespaced_deployment_scale("d", "py", scale)
assert apps.read_namespaced_deployment("d", "py").spec.replicas == 3

any_kind = dynamic.DynamicClient(client.ApiClient())
maps = any_kind.resources.get(api_version="v1", kind="ConfigMap")
body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "py"}, "data": {"z": "1"}}
any_kind.server_side_apply(maps, body=body, name="b", namespace="py", field_manager="py")
assert maps.get(name="b", namespace="py").data["z"] == "1"

asked = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "py"}}}
assert client.AuthorizationV1Api().create_self_subject_access_review(asked).status.allowed

schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}}}}}
client.ApiextensionsV1Api().create_custom_resource_definition({
    "metadata": {"name": "things.py.example"},
    "spec": {
        "group": "py.example",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
    },
})
thing = {"apiVersion": "py.example/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"n": 1}}
of_things = ("py.example", "v1", "py", "things")
for _ in range(200):
    try:
        custom.create_namespaced_custom_object(*of_things, thing)
        break
    except ApiException as error:
        # The definition has yet to be served.
        assert error.status == 404, error
        time.sleep(0.1)
refused(422, custom.patch_namespaced_custom_object, *of_things, "t", {"spec": {"n": 9}})
assert custom.get_namespaced_custom_object(*of_things, "t")["spec"] == {"n": 1}

core.delete_collection_namespaced_config_map("py")
assert not core.list_namespaced_config_map("py").items
print("done")
