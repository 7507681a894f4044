//! Binary trees over modes, and how they are written: `((1 2) (3 4))`.

use crate::error::count;
use crate::{Error, Result};

/// A binary tree whose leaves are modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// A mode, from 0.
    Leaf(usize),
    /// Two trees joined.
    Node(Box<Tree>, Box<Tree>),
}

/// A node of a tree in a list where sons come before their father.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// A mode.
    Leaf(usize),
    /// Where the left and the right son are in the list.
    Inner(usize, usize),
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

    /// The tree of a Tensor Train: each node splits off its last mode.
    pub fn linear(d: usize) -> Self {
        (1..d).fold(Self::Leaf(0), |tree, mode| Self::Node(Box::new(tree), Box::new(Self::Leaf(mode))))
    }

    /// The leaves from left to right.
    pub(super) fn leaves(&self) -> Vec<usize> {
        match self {
            Self::Leaf(mode) => vec![*mode],
            Self::Node(left, right) => [left.leaves(), right.leaves()].concat(),
        }
    }

    /// The inner nodes but the root, each behind its children.
    pub(crate) fn nodes(&self) -> Vec<&Self> {
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
    pub(crate) fn modes(&self) -> String {
        self.leaves().iter().map(|mode| (mode + 1).to_string()).collect::<Vec<_>>().join("-")
    }

    /// Refuses a tree that has not every mode once.
    pub(crate) fn check(&self, modes: usize) -> Result<()> {
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

    /// The nodes, sons before their father, the left subtree before the right one; the root is last.
    pub(crate) fn listed(&self) -> Vec<Node> {
        fn collect(tree: &Tree, nodes: &mut Vec<Node>) -> usize {
            let node = match tree {
                Tree::Leaf(mode) => Node::Leaf(*mode),
                Tree::Node(left, right) => {
                    let left = collect(left, nodes);
                    Node::Inner(left, collect(right, nodes))
                }
            };
            nodes.push(node);
            nodes.len() - 1
        }
        let mut nodes = Vec::new();
        collect(self, &mut nodes);
        nodes
    }

    /// The largest rank that each node but the root can have, in the order of [`Hierarchical::cores`]: the smaller of
    /// the numbers below it and of the others.
    ///
    /// [`Hierarchical::cores`]: super::Hierarchical
    ///
    /// # Errors
    /// [`Error::Shape`] for a tree that is not over these modes; [`Error::Size`] for more numbers than can be counted.
    pub fn largest_ranks(&self, modes: &[usize]) -> Result<Vec<usize>> {
        self.check(modes.len())?;
        let all = count("tensor", modes)?;
        let nodes = self.listed();
        let mut below: Vec<usize> = Vec::with_capacity(nodes.len());
        for node in &nodes {
            below.push(match node {
                Node::Leaf(mode) => modes[*mode],
                Node::Inner(left, right) => count("tensor", &[below[*left], below[*right]])?,
            });
        }
        below.pop();
        Ok(below.into_iter().map(|below| below.min(all / below.max(1))).collect())
    }

    /// One rank for all leaves and one for all inner nodes but the root, in the order of [`Hierarchical::cores`], each
    /// lowered to what its neighbours allow.
    ///
    /// [`Hierarchical::cores`]: super::Hierarchical
    ///
    /// # Errors
    /// As [`Tree::largest_ranks`].
    pub fn ranks(&self, modes: &[usize], leaf: usize, inner: usize) -> Result<Vec<usize>> {
        let nodes = self.listed();
        let mut ranks = self.largest_ranks(modes)?;
        for (rank, node) in ranks.iter_mut().zip(&nodes) {
            *rank = (*rank).min(if matches!(node, Node::Leaf(_)) { leaf } else { inner });
        }
        // Lowered once more as long as a rank is above the product of the other two at its node.
        loop {
            let before = ranks.clone();
            for (at, node) in nodes.iter().enumerate() {
                let Node::Inner(left, right) = *node else { continue };
                let own = ranks.get(at).copied().unwrap_or(1);
                ranks[left] = ranks[left].min(own.saturating_mul(ranks[right]));
                ranks[right] = ranks[right].min(own.saturating_mul(ranks[left]));
                let both = ranks[left].saturating_mul(ranks[right]);
                if let Some(own) = ranks.get_mut(at) {
                    *own = (*own).min(both);
                }
            }
            if ranks == before {
                return Ok(ranks);
            }
        }
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
        /// Far longer than any tree that can be planned: the reader walks as deep as parentheses go.
        const LONGEST: usize = 4096;
        let mut rest = text.trim();
        let tree = if rest.len() <= LONGEST { read(&mut rest) } else { None };
        tree.filter(|_| rest.trim().is_empty()).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Error::Shape(format!(
                "{shown:?} is no binary tree: pairs in parentheses over modes from 1, as \"((1 2) (3 4))\""
            ))
        })
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
