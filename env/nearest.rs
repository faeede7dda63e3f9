//! The nearest known word, for whoever mistyped one.

/// `; did you mean "…"?` for the nearest of `names`, or nothing if none is near.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (distance(word, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let names = || ["node-name", "node-label", "v"].into_iter();
        assert_eq!(nearest("node-nam", names()), "; did you mean \"node-name\"?");
        assert_eq!(nearest("node-lable", names()), "; did you mean \"node-label\"?");
        assert_eq!(nearest("something-else", names()), "");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
