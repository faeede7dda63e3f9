//! Properties of how configuration files are merged, against a model that is a few lines.

use std::collections::BTreeMap;

use k3s_env::Values;
use k3s_env::flag::Subcommand;
use proptest::prelude::*;

const KEYS: [&str; 3] = ["tls-san", "node-label", "kubelet-arg"];

/// One key of a file.
#[derive(Debug, Clone)]
struct Line {
    key: usize,
    append: bool,
    values: Vec<String>,
    /// Written as one value where there is one, not as a list.
    single: bool,
}

impl Line {
    fn yaml(&self) -> String {
        let key = format!("{}{}", KEYS[self.key], if self.append { "+" } else { "" });
        match &self.values[..] {
            [value] if self.single => format!("{key}: '{value}'\n"),
            values => {
                format!("{key}: [{}]\n", values.iter().map(|it| format!("'{it}'")).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn line(key: usize) -> impl Strategy<Value = Line> {
    let values = prop::collection::vec("[a-z]{1,4}=[a-z0-9./:-]{0,6}", 0..4);
    (any::<bool>(), values, any::<bool>()).prop_map(move |(append, values, single)| Line {
        key,
        append,
        values,
        single,
    })
}

/// A file has each key at most once.
fn file() -> impl Strategy<Value = Vec<Line>> {
    let lines = (prop::option::of(line(0)), prop::option::of(line(1)), prop::option::of(line(2)));
    lines.prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect())
}

fn resolve(files: &[Vec<Line>]) -> BTreeMap<&'static str, Vec<String>> {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("config.yaml");
    std::fs::create_dir(dir.path().join("config.yaml.d")).expect("a folder");
    for (number, file) in files.iter().enumerate() {
        let path = match number {
            0 => config.clone(),
            _ => dir.path().join(format!("config.yaml.d/{number:03}.yaml")),
        };
        std::fs::write(path, file.iter().map(Line::yaml).collect::<String>()).expect("a file");
    }
    let values = Values::resolve(Subcommand::Server, [], |_| None, &config).expect("a configuration");
    KEYS.into_iter().map(|key| (key, values.list(key))).collect()
}

/// What k3s documents: the last file that has a key decides, and a plus sign adds to what is there.
fn model(files: &[Vec<Line>]) -> BTreeMap<&'static str, Vec<String>> {
    let mut merged: BTreeMap<_, _> = KEYS.into_iter().map(|key| (key, Vec::new())).collect();
    for line in files.iter().flatten() {
        let values = merged.get_mut(KEYS[line.key]).expect("a key of the list");
        if !line.append {
            values.clear();
        }
        values.extend(line.values.iter().cloned());
    }
    merged
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn files_are_merged_as_the_model_says(files in prop::collection::vec(file(), 1..6)) {
        prop_assert_eq!(resolve(&files), model(&files));
    }

    #[test]
    fn a_file_that_replaces_every_key_makes_the_earlier_ones_irrelevant(
        earlier in prop::collection::vec(file(), 1..4),
        last in (line(0), line(1), line(2)),
    ) {
        let last: Vec<Line> = [last.0, last.1, last.2].into_iter().map(|it| Line { append: false, ..it }).collect();
        let mut all = earlier;
        all.push(last.clone());
        prop_assert_eq!(resolve(&all), resolve(&[last]));
    }

    #[test]
    fn plus_signs_only_add(files in prop::collection::vec(file(), 1..5)) {
        let adding: Vec<Vec<Line>> =
            files.iter().map(|file| file.iter().map(|it| Line { append: true, ..it.clone() }).collect()).collect();
        let all = resolve(&adding);
        for (key, name) in KEYS.iter().enumerate() {
            let count: usize = files.iter().flatten().filter(|it| it.key == key).map(|it| it.values.len()).sum();
            prop_assert_eq!(all[name].len(), count);
        }
    }
}
