//! The floor: which answers are known to differ.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::{Context, Result};

use crate::suite::Outcome;

/// How to write the file anew.
const UPDATE: &str = "run this test with UPDATE_GOLDEN=1 to rewrite tests/golden/expected.txt";

const PREAMBLE: &str = "\
# Recorded answers that this API server gives, suite by suite: the same/all, and below each suite the steps that are known
# to differ. Written by the test 'golden' with UPDATE_GOLDEN=1.
";

/// What `expected.txt` says, in the order of the suites.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected(Vec<Floor>);

#[derive(Debug, PartialEq, Eq)]
struct Floor {
    suite: String,
    same: usize,
    total: usize,
    /// Number of a step, and its request.
    different: BTreeMap<usize, String>,
}

impl Expected {
    pub fn measured(outcomes: &[Outcome]) -> Self {
        let floor = |outcome: &Outcome| Floor {
            suite: outcome.suite.clone(),
            same: outcome.same(),
            total: outcome.total,
            different: outcome.different.iter().map(|(step, answer)| (*step, answer.request.clone())).collect(),
        };
        Self(outcomes.iter().map(floor).collect())
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mut floors: Vec<Floor> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let unclear = || format!("expected.txt: unclear line {line:?}; {UPDATE}");
            if let Some(step) = line.strip_prefix("    ") {
                let (number, request) = step.split_once(' ').with_context(unclear)?;
                let floor = floors.last_mut().with_context(unclear)?;
                floor.different.insert(number.parse().with_context(unclear)?, request.to_owned());
            } else {
                let (suite, counts) = line.split_once(' ').with_context(unclear)?;
                let (same, total) = counts.split_once('/').with_context(unclear)?;
                let [same, total] = [same, total].map(str::parse);
                floors.push(Floor {
                    suite: suite.to_owned(),
                    same: same.with_context(unclear)?,
                    total: total.with_context(unclear)?,
                    different: BTreeMap::new(),
                });
            }
        }
        Ok(Self(floors))
    }

    /// What is not as the file says: a line each, empty if all is.
    pub fn check(&self, outcomes: &[Outcome]) -> Vec<String> {
        let mut complaints = Vec::new();
        for outcome in outcomes {
            match self.0.iter().find(|floor| floor.suite == outcome.suite) {
                Some(floor) => floor.check(outcome, &mut complaints),
                None => complaints.push(format!("{}: not in expected.txt; {UPDATE}", outcome.suite)),
            }
        }
        let gone = self.0.iter().filter(|floor| !outcomes.iter().any(|outcome| outcome.suite == floor.suite));
        complaints.extend(gone.map(|floor| format!("{}: in expected.txt, but not in suites/; {UPDATE}", floor.suite)));
        complaints
    }
}

impl Floor {
    fn check(&self, outcome: &Outcome, complaints: &mut Vec<String>) {
        let Self { suite, same, total, different } = self;
        for (step, answer) in outcome.different.iter().filter(|(step, _)| !different.contains_key(step)) {
            let mut text = format!("{suite}: step {step} was the same and now differs: {}", answer.request);
            for difference in answer.differences.iter().take(6) {
                // Writing to a string can't fail.
                let _ = write!(text, "\n    {difference}");
            }
            if let Some(more) = answer.differences.len().checked_sub(6).filter(|more| *more > 0) {
                let _ = write!(text, "\n    and {more} more");
            }
            complaints.push(text);
        }
        for (step, request) in different.iter().filter(|(step, _)| !outcome.different.contains_key(step)) {
            complaints.push(format!("{suite}: step {step} differed and is now the same: {request}; {UPDATE}"));
        }
        if *total != outcome.total || same + different.len() != *total {
            let counted = outcome.total;
            complaints.push(format!("{suite}: expected.txt counts {same}/{total}, there are {counted}; {UPDATE}"));
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREAMBLE)?;
        for Floor { suite, same, total, different } in &self.0 {
            writeln!(f, "{suite} {same}/{total}")?;
            different.iter().try_for_each(|(step, request)| writeln!(f, "    {step} {request}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::Difference;
    use crate::json::Json;
    use crate::suite::DifferentAnswer;

    fn outcome(different: &[usize]) -> Outcome {
        let answer = |step: &usize| {
            let difference = Difference { path: ".status".into(), want: Some(Json::Number(200.into())), got: None };
            (*step, DifferentAnswer { request: format!("GET /{step}"), differences: vec![difference] })
        };
        Outcome { suite: "lists".into(), total: 3, different: different.iter().map(answer).collect() }
    }

    #[test]
    fn what_is_written_is_read_again_and_fits() {
        let outcomes = [outcome(&[2])];
        let expected = Expected::measured(&outcomes);
        assert_eq!(Expected::parse(&expected.to_string()).unwrap(), expected);
        assert!(expected.check(&outcomes).is_empty());
    }

    #[test]
    fn a_step_that_differs_now_is_named_with_its_paths() {
        let complaints = Expected::measured(&[outcome(&[2])]).check(&[outcome(&[2, 3])]);
        let expected =
            ["lists: step 3 was the same and now differs: GET /3\n    .status: want 200 got <absent>".to_owned()];
        assert_eq!(complaints, expected);
    }

    #[test]
    fn a_step_that_is_the_same_now_asks_for_an_update() {
        let complaints = Expected::measured(&[outcome(&[1, 2])]).check(&[outcome(&[2])]);
        assert_eq!(complaints, [format!("lists: step 1 differed and is now the same: GET /1; {UPDATE}")]);
    }

    #[test]
    fn suites_come_and_go_only_with_an_update() {
        assert_eq!(Expected(Vec::new()).check(&[outcome(&[])]).len(), 1);
        assert_eq!(Expected::measured(&[outcome(&[])]).check(&[]).len(), 1);
    }

    #[test]
    fn a_line_that_says_nothing_is_an_error() {
        for text in ["lists", "lists 3", "lists 3/x", "    1 GET /", "lists 3/3\n    x GET /"] {
            Expected::parse(text).unwrap_err();
        }
    }
}
