//! Tables that Kubernetes v1.36 answered: the columns word for word, the cells from the objects.

use k3s_api::{resource, table};
use serde_json::Value;

/// What depends on when the table was asked for.
fn is_age(cell: &Value) -> bool {
    matches!(cell.as_str(), Some("<age>" | "<unknown>"))
}

#[test]
fn tables_look_as_kubernetes_prints_them() {
    let path = format!("{}/tests/data/tables.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut failures = Vec::new();
    for case in &cases {
        let name = case["resource"].as_str().unwrap();
        let parts: Vec<&str> = name.split('/').collect();
        let resource = resource::find(parts[0], parts[1], parts[2]).unwrap();
        let columns = table::columns(resource);
        if columns != case["columns"] {
            failures.push(format!("{name}: columns {columns}\n    not {}", case["columns"]));
        }
        for row in case["rows"].as_array().unwrap() {
            let ours = table::cells(resource, &row["object"], jiff::Timestamp::UNIX_EPOCH);
            let theirs = row["cells"].as_array().unwrap();
            let same = |(a, b): (&Value, &Value)| a == b || is_age(a) && is_age(b);
            if ours.len() != theirs.len() || !ours.iter().zip(theirs).all(same) {
                failures.push(format!("{name}: {}\n    not {}", Value::from(ours), row["cells"]));
            }
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}
