//! One target under libFuzzer: the one that `K3S_FUZZ_TARGET` names. `tests/fuzz/run` starts it.

#![no_main]

use std::sync::OnceLock;

use k3s_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("K3S_FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("K3S_FUZZ_TARGET must be one of {}", names.join(", "));
            std::process::exit(2)
        })
    })
}

fuzz_target!(|input: &[u8]| {
    if let Err(reason) = target().run(input) {
        panic!("{reason}");
    }
});
