//! Differences between two texts, line by line, in the unified form.
//!
//! Kubernetes makes them with a port of Python's difflib, whose choice among equally short differences shows in its
//! messages; so this is the same algorithm: the longest common block, then the same to its left and right.

use std::collections::HashMap;
use std::fmt::Write;

/// Lines around a change.
const CONTEXT: usize = 3;
/// From so many lines on, a line that comes often is not what a block begins with.
const OFTEN_FROM: usize = 200;

/// Lines that are the same, from `a` in the one and `b` in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    a: usize,
    b: usize,
    size: usize,
}

/// What to do with the lines `a` of the old text to have the lines `b` of the new.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    same: bool,
    a: std::ops::Range<usize>,
    b: std::ops::Range<usize>,
}

struct Matcher<'a> {
    old: &'a [&'a str],
    new: &'a [&'a str],
    /// Where a line stands in the new text, unless it comes too often.
    places: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Matcher<'a> {
    fn new(old: &'a [&'a str], new: &'a [&'a str]) -> Self {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, line) in new.iter().enumerate() {
            places.entry(line).or_default().push(index);
        }
        if new.len() >= OFTEN_FROM {
            let often = new.len() / 100 + 1;
            places.retain(|_, at| at.len() <= often);
        }
        Self { old, new, places }
    }

    /// The longest block within the ranges; of several the first.
    fn longest(&self, a: std::ops::Range<usize>, b: std::ops::Range<usize>) -> Block {
        let mut best = Block { a: a.start, b: b.start, size: 0 };
        let mut lengths: HashMap<usize, usize> = HashMap::new();
        for index in a.clone() {
            let mut next = HashMap::new();
            let places = self.places.get(self.old[index]).map(Vec::as_slice).unwrap_or_default();
            for place in places.iter().copied().filter(|place| b.contains(place)) {
                let before = place.checked_sub(1).and_then(|place| lengths.get(&place)).copied().unwrap_or(0);
                let size = before + 1;
                next.insert(place, size);
                if size > best.size {
                    best = Block { a: index + 1 - size, b: place + 1 - size, size };
                }
            }
            lengths = next;
        }
        // Lines that come often belong to a block that others have begun.
        while best.a > a.start && best.b > b.start && self.old[best.a - 1] == self.new[best.b - 1] {
            best = Block { a: best.a - 1, b: best.b - 1, size: best.size + 1 };
        }
        while best.a + best.size < a.end
            && best.b + best.size < b.end
            && self.old[best.a + best.size] == self.new[best.b + best.size]
        {
            best.size += 1;
        }
        best
    }

    /// All blocks, in order, and an empty one at the end.
    fn blocks(&self) -> Vec<Block> {
        let mut found = Vec::new();
        let mut waiting = vec![(0..self.old.len(), 0..self.new.len())];
        while let Some((a, b)) = waiting.pop() {
            let block = self.longest(a.clone(), b.clone());
            if block.size == 0 {
                continue;
            }
            if a.start < block.a && b.start < block.b {
                waiting.push((a.start..block.a, b.start..block.b));
            }
            let (a_end, b_end) = (block.a + block.size, block.b + block.size);
            if a_end < a.end && b_end < b.end {
                waiting.push((a_end..a.end, b_end..b.end));
            }
            found.push(block);
        }
        found.sort_unstable_by_key(|block| (block.a, block.b));
        found.push(Block { a: self.old.len(), b: self.new.len(), size: 0 });
        found
    }

    fn steps(&self) -> Vec<Step> {
        let (mut a, mut b) = (0, 0);
        let mut steps: Vec<Step> = Vec::new();
        for block in self.blocks() {
            if a < block.a || b < block.b {
                steps.push(Step { same: false, a: a..block.a, b: b..block.b });
            }
            (a, b) = (block.a + block.size, block.b + block.size);
            match steps.last_mut() {
                // Two blocks that touch are one.
                Some(last) if last.same && last.a.end == block.a && last.b.end == block.b => {
                    (last.a.end, last.b.end) = (a, b);
                }
                _ if block.size > 0 => steps.push(Step { same: true, a: block.a..a, b: block.b..b }),
                _ => {}
            }
        }
        steps
    }
}

/// Steps that are near each other, with the lines around them.
fn hunks(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    if let Some(first) = steps.first_mut().filter(|step| step.same) {
        first.a.start = first.a.start.max(first.a.end.saturating_sub(CONTEXT));
        first.b.start = first.b.start.max(first.b.end.saturating_sub(CONTEXT));
    }
    if let Some(last) = steps.last_mut().filter(|step| step.same) {
        last.a.end = last.a.end.min(last.a.start + CONTEXT);
        last.b.end = last.b.end.min(last.b.start + CONTEXT);
    }
    let mut hunks = Vec::new();
    let mut hunk = Vec::new();
    for step in steps {
        if step.same && step.a.len() > 2 * CONTEXT {
            let before =
                Step { same: true, a: step.a.start..step.a.start + CONTEXT, b: step.b.start..step.b.start + CONTEXT };
            hunk.push(before);
            hunks.push(std::mem::take(&mut hunk));
            hunk.push(Step { same: true, a: step.a.end - CONTEXT..step.a.end, b: step.b.end - CONTEXT..step.b.end });
        } else {
            hunk.push(step);
        }
    }
    hunks.push(hunk);
    hunks.retain(|hunk| hunk.iter().any(|step| !step.same));
    hunks
}

fn range(lines: std::ops::Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        count => format!("{},{count}", lines.start + 1),
    }
}

/// What differs, in hunks with three lines around each; empty if nothing does.
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for hunk in hunks(Matcher::new(&old, &new).steps()) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let (a, b) = (range(first.a.start..last.a.end), range(first.b.start..last.b.end));
        // Writing into a string does not fail.
        let _ = writeln!(out, "@@ -{a} +{b} @@");
        for step in &hunk {
            let mut put = |mark: char, lines: &[&str]| {
                for line in lines {
                    let _ = writeln!(out, "{mark}{line}");
                }
            };
            match step.same {
                true => put(' ', &old[step.a.clone()]),
                false => {
                    put('-', &old[step.a.clone()]);
                    put('+', &new[step.b.clone()]);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_stands_between_three_lines() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni";
        assert_eq!(unified(old, &old.replace('e', "x\ny")), "@@ -2,7 +2,8 @@\n b\n c\n d\n-e\n+x\n+y\n f\n g\n h\n");
        assert_eq!(unified(old, old), "");
    }

    #[test]
    fn changes_far_apart_are_hunks_of_their_own() {
        let lines: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let old = lines.join("\n");
        let new = old.replace("\n5\n", "\nfive\n").replace("\n30\n", "\n");
        assert_eq!(
            unified(&old, &new),
            "@@ -3,7 +3,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n@@ -28,7 +28,6 @@\n 27\n 28\n 29\n-30\n 31\n 32\n 33\n"
        );
    }

    #[test]
    fn lines_that_come_often_begin_no_block() {
        let old: Vec<&str> = std::iter::repeat_n("}", 150).chain(std::iter::repeat_n("{", 150)).collect();
        let mut new = old.clone();
        new[100] = "x";
        let diff = unified(&old.join("\n"), &new.join("\n"));
        // What is the same at the start is seen, but no block after it.
        assert!(diff.starts_with("@@ -98,203 +98,203 @@\n }\n }\n }\n-}"), "{}", &diff[..40]);
    }
}
