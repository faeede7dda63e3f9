//! docs/configuration.md says what the table of flags says. `UPDATE_REFERENCE=1` writes it.

use std::path::Path;

use k3s_env::reference::{BEGIN, END, reference};

#[test]
fn the_reference_in_the_documentation_is_made_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(&path).expect("docs/configuration.md");
    let (before, rest) = page.split_once(BEGIN).expect("the mark at the begin");
    let (_, after) = rest.split_once(END).expect("the mark at the end");
    let want = format!("{before}{BEGIN}\n{}\n{END}{after}", reference());
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &want).expect("docs/configuration.md");
        return;
    }
    assert!(
        page == want,
        "docs/configuration.md is behind the table of flags; run: UPDATE_REFERENCE=1 cargo test -p k3s-env reference"
    );
}
