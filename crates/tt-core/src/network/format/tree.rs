//! Binary trees over modes, and how they are written: `((1 2) (3 4))`.

use crate::{Error, Result};

/// A binary tree whose leaves are modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// A mode, from 0.
    Leaf(usize),
    /// Two trees joined.
    Node(Box<Tree>, Box<Tree>),
}

impl Tree {
    /// The tree whose halves are as equal as can be, over modes 0 to `modes - 1` in order.
    pub fn balanced(modes: usize) -> Self {
        fn over(range: std::ops::Range<usize>) -> Tree {
            if range.len() <= 1 {
                return Tree::Leaf(range.start);
            }
            let middle = range.start + range.len().div_ceil(2);
            Tree::Node(Box::new(over(range.start..middle)), Box::new(over(middle..range.end)))
        }
        over(0..modes)
    }

    /// The leaves from left to right.
    fn leaves(&self) -> Vec<usize> {
        match self {
            Self::Leaf(mode) => vec![*mode],
            Self::Node(left, right) => [left.leaves(), right.leaves()].concat(),
        }
    }

    /// The inner nodes but the root, each behind its children.
    pub(super) fn nodes(&self) -> Vec<&Self> {
        fn below<'a>(tree: &'a Tree, all: &mut Vec<&'a Tree>) {
            if let Tree::Node(left, right) = tree {
                below(left, all);
                below(right, all);
                all.push(tree);
            }
        }
        let mut all = Vec::new();
        below(self, &mut all);
        all.pop();
        all
    }

    /// The modes below, as names have them: `1-2` for the first two.
    pub(super) fn modes(&self) -> String {
        self.leaves().iter().map(|mode| (mode + 1).to_string()).collect::<Vec<_>>().join("-")
    }

    /// Refuses a tree that has not every mode once.
    pub(super) fn check(&self, modes: usize) -> Result<()> {
        let mut leaves = self.leaves();
        leaves.sort_unstable();
        if let Some(missing) = (0..modes).find(|mode| !leaves.contains(mode)) {
            return Err(Error::Shape(format!("the tree {self} misses mode {} of {modes}", missing + 1)));
        }
        if leaves.len() != modes {
            let twice = leaves.windows(2).find(|pair| pair[0] == pair[1]).map_or(modes, |pair| pair[0]);
            let mode = twice + 1;
            return Err(Error::Shape(format!(
                "the tree {self} has mode {mode} too often: there are {modes}"
            )));
        }
        Ok(())
    }
}

impl std::fmt::Display for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leaf(mode) => write!(f, "{}", mode + 1),
            Self::Node(left, right) => write!(f, "({left} {right})"),
        }
    }
}

impl std::str::FromStr for Tree {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut rest = text.trim();
        match read(&mut rest) {
            Some(tree) if rest.trim().is_empty() => Ok(tree),
            _ => Err(Error::Shape(format!(
                "{text:?} is no binary tree: pairs in parentheses over modes from 1, as \"((1 2) (3 4))\""
            ))),
        }
    }
}

fn read(rest: &mut &str) -> Option<Tree> {
    *rest = rest.trim_start();
    let Some(inside) = rest.strip_prefix('(') else {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let mode: usize = rest[..end].parse().ok()?;
        *rest = &rest[end..];
        return Some(Tree::Leaf(mode.checked_sub(1)?));
    };
    *rest = inside;
    let (left, right) = (read(rest)?, read(rest)?);
    *rest = rest.trim_start().strip_prefix(')')?;
    Some(Tree::Node(Box::new(left), Box::new(right)))
}
