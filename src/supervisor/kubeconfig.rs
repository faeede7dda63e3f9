//! The administrator's kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Pair;

/// A kubeconfig, YAML, with everything embedded; cluster, user and context are called `default`, as k3s calls them.
pub fn kubeconfig(server: &str, ca_certificate: &str, user: &Pair) -> String {
    let ca = STANDARD.encode(ca_certificate);
    let certificate = STANDARD.encode(&user.certificate);
    let key = STANDARD.encode(&user.key);
    format!(
        "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {ca}
    server: {server}
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {{}}
users:
- name: default
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"
    )
}
