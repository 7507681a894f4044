//! Parts of a split by the names that people give them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;

use crate::kind::Split;

/// Names of the parts, lower case.
const SPLITS: [(&str, Part); 9] = [
    ("train", Part::Train),
    ("training", Part::Train),
    ("val", Part::Validation),
    ("valid", Part::Validation),
    ("validation", Part::Validation),
    ("dev", Part::Validation),
    ("test", Part::Test),
    ("testing", Part::Test),
    ("eval", Part::Test),
];

/// The part of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Train,
    Validation,
    Test,
}

impl Part {
    pub(super) fn of(name: &OsStr) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        SPLITS.into_iter().find(|(word, _)| name == *word).map(|(_, part)| part)
    }
}

/// How many clips each part has.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts(BTreeMap<Part, usize>);

impl Parts {
    pub(super) fn add(&mut self, part: Part) {
        *self.0.entry(part).or_default() += 1;
    }

    /// Whether there is something to train on and something to score on.
    pub(super) fn is_split(&self) -> bool {
        self.0.len() > 1 && self.0.contains_key(&Part::Train)
    }

    /// The side a part is on. Nothing is chosen on validation clips here: they are trained on if there are
    /// test clips, and are the test clips otherwise.
    pub(super) fn side(&self, part: Part) -> Split {
        match part {
            Part::Train => Split::Train,
            Part::Validation if self.0.contains_key(&Part::Test) => Split::Train,
            Part::Validation | Part::Test => Split::Test,
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |part| self.0.get(&part).copied().unwrap_or(0);
        let (train, validation, test) = (count(Part::Train), count(Part::Validation), count(Part::Test));
        match (validation, test) {
            (0, _) => write!(f, "{train} clips to train on, {test} to score on"),
            (_, 0) => write!(f, "{train} clips to train on, {validation} of validation to score on"),
            _ => write!(f, "{train} clips to train on with {validation} of validation, {test} to score on"),
        }
    }
}
