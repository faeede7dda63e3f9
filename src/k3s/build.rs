//! Notes which compiler builds k3s, for `k3s --version`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output().expect("the compiler says its version");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(1).expect("rustc VERSION ...");
    println!("cargo::rustc-env=K3S_RUST_VERSION={version}");
}
