//! The types of what every expression of admission may mention beside the objects: `request` and `namespaceObject`.

use crate::cel::Type;

fn texts<const N: usize>(names: [&str; N]) -> impl Iterator<Item = (String, Type)> {
    names.into_iter().map(|name| (name.to_owned(), Type::String))
}

fn with(own: impl Iterator<Item = (String, Type)>, more: Vec<(&str, Type)>) -> Vec<(String, Type)> {
    own.chain(more.into_iter().map(|(name, of)| (name.to_owned(), of))).collect()
}

/// `AdmissionRequest`, without the objects.
pub(super) fn request() -> Type {
    let kind = || Type::object("kubernetes.GroupVersionKind", texts(["group", "version", "kind"]));
    let resource = || Type::object("kubernetes.GroupVersionResource", texts(["group", "version", "resource"]));
    let user = with(
        texts(["username", "uid"]),
        vec![("groups", Type::list(Type::String)), ("extra", Type::map(Type::String, Type::list(Type::String)))],
    );
    let fields = with(
        texts(["subResource", "requestSubResource", "name", "namespace", "operation"]),
        vec![
            ("kind", kind()),
            ("resource", resource()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("userInfo", Type::object("kubernetes.UserInfo", user)),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    );
    Type::object("kubernetes.AdmissionRequest", fields)
}

/// The namespace that an object is in: what of it expressions see.
pub(super) fn namespace() -> Type {
    let labels = || Type::map(Type::String, Type::String);
    let metadata = with(
        texts(["name", "generateName", "namespace", "UID", "resourceVersion"]),
        vec![
            ("labels", labels()),
            ("annotations", labels()),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("finalizers", Type::list(Type::String)),
        ],
    );
    let spec = with(texts([]), vec![("finalizers", Type::list(Type::String))]);
    let fields = vec![
        ("metadata", Type::object("kubernetes.NamespaceMetadata", metadata)),
        ("spec", Type::object("kubernetes.NamespaceSpec", spec)),
        ("status", Type::object("kubernetes.NamespaceStatus", texts(["phase"]))),
    ];
    Type::object("kubernetes.Namespace", with(texts([]), fields))
}
