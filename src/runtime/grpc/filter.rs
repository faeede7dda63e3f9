//! Which objects a list is to have.

use std::collections::{BTreeMap, HashMap};

/// Does an object have all labels of a selector?
pub(super) fn labels(selector: &HashMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// An id is given by a prefix of it; empty fits all.
pub(super) fn id(wanted: &str, id: &str) -> bool {
    id.starts_with(wanted)
}

/// The one id that begins with what was given, as clients abbreviate ids; what is given if there is none or several.
pub(super) fn resolve<'a>(given: &str, ids: impl Iterator<Item = &'a String>) -> String {
    let mut found = ids.filter(|id| !given.is_empty() && id.starts_with(given));
    match (found.next(), found.next()) {
        (Some(one), None) => one.clone(),
        _ => given.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unmistakable_prefix_is_an_id() {
        let ids = ["abc".to_owned(), "abd".to_owned()];
        assert_eq!(resolve("abc", ids.iter()), "abc");
        assert_eq!(resolve("abd", ids.iter()), "abd");
        assert_eq!(resolve("ab", ids.iter()), "ab");
        assert_eq!(resolve("", ids[..1].iter()), "");
    }
}
