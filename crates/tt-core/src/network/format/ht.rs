//! A hierarchical Tucker decomposition: factors at the leaves of a binary tree, small cores at its nodes.

use super::fit::numbers;
use super::{Format, FormatShape, Modes, Options, Tree};
use crate::Result;
use crate::decomposition::{Alternating, Decomposed, Fit, Node, Truncation, hierarchical_svd};
use crate::network::Network;

/// `W[i, j]` is the value of the root: a leaf of mode k has the values `U_k[i_k, j_k, a]`, a node
/// `Σ_{s, u} B[s, u, a] · left[s] · right[u]`, and at the root a is 1.
///
/// The ranks are those of the edges: the leaves' in the order of the modes, then the inner nodes' from the left, each
/// behind its children. A Tensor Train has the same shape with a tree that is a line.
///
/// # Paper
/// Hackbusch, Kühn 2009, "A New Scheme for the Tensor Representation"; Yin et al. 2020, "Compressing Recurrent Neural
/// Networks Using Hierarchical Tucker Tensor Decomposition".
#[derive(Debug, Clone, Copy)]
pub struct Hierarchical;

impl Format for Hierarchical {
    fn name(&self) -> &'static str {
        "ht"
    }

    fn ranks(&self, modes: &Modes, options: &Options) -> Result<Vec<String>> {
        let d = modes.paired(self.name())?;
        let tree = options.tree_over(d);
        tree.check(d)?;
        // One mode alone is a leaf that is the root; two edges to a root of two are apart all the same.
        let leaves = (1..=if d == 1 { 0 } else { d }).map(|k| format!("r{k}"));
        Ok(leaves.chain(tree.nodes().iter().map(|node| format!("r{}", node.modes()))).collect())
    }

    fn network(&self, modes: &Modes, options: &Options, ranks: &[usize]) -> Network {
        let d = modes.inputs.len();
        let mut network = Network::open(&modes.inputs, &modes.gated());
        if d == 1 {
            network.core("U1", &[0, 1]);
            return network;
        }
        let tree = options.tree_over(d);
        let leaves: Vec<usize> = (0..d).map(|k| network.inner(format!("r{}", k + 1), ranks[k])).collect();
        for (k, leaf) in leaves.iter().enumerate() {
            network.core(format!("U{}", k + 1), &[k, d + k, *leaf]);
        }
        let mut inner = ranks[d..].iter();
        grow(&tree, &mut network, &leaves, &mut inner, true);
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        if let ([i], [j]) = (i, j) {
            return shape.core(cores, 0, &[*i, *j]);
        }
        let mut node = i.len();
        values(&shape.options.tree_over(i.len()), shape, cores, (i, j), &mut node, true)[0]
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], _: &Alternating) -> Result<Fit<Vec<f64>>> {
        let (paired, modes) = shape.paired(matrix)?;
        let (d, tree) = (modes.len(), shape.options.tree_over(modes.len()));
        let order = tree.listed();
        // Its ranks are those of the leaves first; a decomposition has every node behind its sons.
        let (mut inner, mut ranks) = (shape.ranks()[d.min(shape.ranks().len())..].iter(), Vec::new());
        for node in &order[..order.len() - 1] {
            ranks.extend(match node {
                Node::Leaf(mode) => Some(shape.ranks()[*mode]),
                Node::Inner(..) => inner.next().copied(),
            });
        }
        let found = hierarchical_svd(&paired, &modes, &tree, &Truncation::Ranks(ranks))?;
        let relative_error = found.relative_error(&paired)?;
        let (mut leaves, mut inner) = (vec![None; d], Vec::new());
        for (node, core) in order.iter().zip(found.cores()) {
            match node {
                Node::Leaf(mode) => leaves[*mode] = Some(core),
                Node::Inner(..) => inner.push(core),
            }
        }
        let cores = leaves.into_iter().flatten().chain(inner);
        Ok(Fit { found: numbers(cores), relative_error, sweeps: 0, converged: true })
    }
}

/// Adds the cores below a node, and returns the label of its edge.
fn grow(
    tree: &Tree,
    network: &mut Network,
    leaves: &[usize],
    ranks: &mut std::slice::Iter<'_, usize>,
    root: bool,
) -> usize {
    let (left, right) = match tree {
        Tree::Leaf(mode) => return leaves[*mode],
        Tree::Node(left, right) => (left, right),
    };
    let children = [grow(left, network, leaves, ranks, false), grow(right, network, leaves, ranks, false)];
    let name = format!("B{}", tree.modes());
    match ranks.next() {
        Some(rank) if !root => {
            let edge = network.inner(format!("r{}", tree.modes()), *rank);
            network.core(name, &[children[0], children[1], edge]);
            edge
        }
        _ => {
            network.core(name, &children);
            0
        }
    }
}

/// The values of a node, one for each value of its edge; `node` is the core of the next inner node.
fn values(
    tree: &Tree,
    shape: &FormatShape,
    cores: &[f64],
    (i, j): (&[usize], &[usize]),
    node: &mut usize,
    root: bool,
) -> Vec<f64> {
    let (left, right) = match tree {
        Tree::Leaf(k) => {
            return (0..shape.ranks[*k]).map(|a| shape.core(cores, *k, &[i[*k], j[*k], a])).collect();
        }
        Tree::Node(left, right) => (left, right),
    };
    let left = values(left, shape, cores, (i, j), node, false);
    let right = values(right, shape, cores, (i, j), node, false);
    let core = *node;
    *node += 1;
    let edge = if root { 1 } else { shape.ranks[core] };
    (0..edge)
        .map(|a| {
            let mut sum = 0.0;
            for (s, left) in left.iter().enumerate() {
                for (u, right) in right.iter().enumerate() {
                    let at = if root { vec![s, u] } else { vec![s, u, a] };
                    sum += shape.core(cores, core, &at) * left * right;
                }
            }
            sum
        })
        .collect()
}
