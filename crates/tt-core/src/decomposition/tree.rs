//! Binary trees over the modes of a tensor.

use crate::error::count;
use crate::{Error, Result};

/// A binary tree whose leaves are the modes of a tensor, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Tree {
    /// A mode.
    Leaf(usize),
    /// Two subtrees, the left one first.
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
    /// The tree over modes `0 … d - 1` whose halves are as equal as can be, the left one larger; a leaf for 1.
    pub fn balanced(d: usize) -> Self {
        fn over(from: usize, to: usize) -> Tree {
            if to - from <= 1 {
                return Tree::Leaf(from);
            }
            let middle = from + (to - from).div_ceil(2);
            Tree::Node(Box::new(over(from, middle)), Box::new(over(middle, to)))
        }
        over(0, d)
    }
}

impl Tree {
    /// The tree of a Tensor Train: each node splits off its last mode.
    pub fn linear(d: usize) -> Self {
        (1..d).fold(Self::Leaf(0), |tree, mode| Self::Node(Box::new(tree), Box::new(Self::Leaf(mode))))
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

    /// The modes from left to right.
    pub(super) fn order(&self) -> Vec<usize> {
        let leaf = |node: &Node| if let Node::Leaf(mode) = node { Some(*mode) } else { None };
        self.listed().iter().filter_map(leaf).collect()
    }

    /// Refuses a tree that is not over `0 … d - 1`, each once.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the modes missing, or there too often.
    pub(super) fn over(&self, d: usize) -> Result<()> {
        let modes = self.order();
        let times = |mode: usize| modes.iter().filter(|other| **other == mode).count();
        let wrong = |expected: fn(usize) -> bool| (0..d).filter(|k| expected(times(*k))).collect::<Vec<_>>();
        let (missing, twice) = (wrong(|times| times == 0), wrong(|times| times > 1));
        let strange: Vec<usize> = modes.iter().copied().filter(|mode| *mode >= d).collect();
        if missing.is_empty() && twice.is_empty() && strange.is_empty() {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "a tree over modes {modes:?} for {d} modes, counted from 0: missing {missing:?}, more than once \
             {twice:?}, not there {strange:?}"
        )))
    }

    /// The largest rank that each node but the root can have, in the order of [`Hierarchical::cores`]: the smaller of
    /// the numbers below it and of the others.
    ///
    /// [`Hierarchical::cores`]: super::Hierarchical
    ///
    /// # Errors
    /// [`Error::Shape`] for a tree that is not over these modes; [`Error::Size`] for more numbers than can be counted.
    pub fn largest_ranks(&self, modes: &[usize]) -> Result<Vec<usize>> {
        self.over(modes.len())?;
        let all = count("tensor", modes)?;
        let nodes = self.listed();
        let mut below: Vec<usize> = Vec::with_capacity(nodes.len());
        for node in &nodes {
            below.push(match node {
                Node::Leaf(mode) => modes[*mode],
                Node::Inner(left, right) => below[*left] * below[*right],
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
