//! Generates the tables of schemas and of resources: what k8s-openapi knows of Kubernetes, and what `data/` adds to it.
//! See `schema.rs` and `resource.rs` for what they are.

#[path = "build/protobuf.rs"]
mod protobuf;
#[path = "build/resources.rs"]
mod resources;
#[path = "build/roots.rs"]
mod roots;
#[path = "build/schemas.rs"]
mod schemas;

/// The table's builder is the one that serves custom resources when the server runs.
#[path = "schema/builder.rs"]
mod builder;
#[allow(dead_code, reason = "the server reads the table, the build script only writes it")]
#[path = "schema/table.rs"]
mod table;

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    for input in ["build.rs", "build", "data", "schema/builder.rs", "schema/table.rs"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let roots = roots::roots();
    let (table, definitions) = schemas::build(&roots);
    for (file, text) in [
        ("schema_table.rs", schemas::source(&table, &definitions)),
        ("schema_text", table.text.clone()),
        ("schema_descriptions", table.descriptions.clone()),
        ("protobuf_table.rs", protobuf::source(&roots.definitions)),
        ("resource_table.rs", resources::source(&roots.resources, &definitions)),
    ] {
        fs::write(out.join(file), text).expect("OUT_DIR can be written");
    }
}
