//! rbac.authorization.k8s.io

use serde_json::Value;

use super::{field, items, text};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A RoleBinding or ClusterRoleBinding.
pub fn binding(binding: &mut Value) {
    if let Some(role) = field(binding, "roleRef")
        && text(role, "apiGroup").is_empty()
    {
        role["apiGroup"] = GROUP.into();
    }
    for subject in items(binding, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            fill!(subject, "apiGroup": GROUP);
        }
    }
}
