//! Notes which compiler builds k3s, for `k3s --version`, and has the linker keep one of several equal functions.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output().expect("the compiler says its version");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(1).expect("rustc VERSION ...");
    println!("cargo::rustc-env=K3S_RUST_VERSION={version}");
    // Only LLD can, which is Rust's own linker on this architecture. `safe` leaves alone what is compared by address.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=safe");
    }
}
