//! Hierarchical Tucker: a binary tree of small cores.

use super::full::{Decomposed, Full};
use super::scale::{restore, shift, tame_all};
use super::tree::Node;
use super::{Core, Scalar, Tree, Truncation, linear};
use crate::{Error, Result};

/// A tensor by a binary tree over its modes: `U_t = (U_s ⊗ U_u) B_t` at each inner node t of sons s and u, a matrix
/// `U_k [n_k, r_k]` at each leaf, the tensor itself at the root.
///
/// # Shapes
/// Cores come sons first, the left subtree before the right one, the root last: `[1, n_k, r_k]` at a leaf,
/// `[r_s, r_u, r_t]` at an inner node, `r_t = 1` at the root.
#[derive(Debug, Clone, PartialEq)]
pub struct Hierarchical {
    tree: Tree,
    cores: Vec<Core<f64>>,
}

impl Hierarchical {
    /// Joins the cores of a tree, in the order that the type says.
    ///
    /// # Errors
    /// [`Error::Shape`] for a tree that is not over all modes, another number of cores, or ranks that do not fit.
    pub fn new(tree: Tree, cores: Vec<Core<f64>>) -> Result<Self> {
        let nodes = tree.listed();
        tree.check(nodes.len().div_ceil(2))?;
        if cores.len() != nodes.len() {
            return Err(Error::Shape(format!(
                "a tree of {} nodes needs as many cores, found {}",
                nodes.len(),
                cores.len()
            )));
        }
        for (at, (node, core)) in nodes.iter().zip(&cores).enumerate() {
            let fits = match node {
                Node::Leaf(_) => core.left == 1,
                Node::Inner(s, u) => (core.left, core.mode) == (cores[*s].right, cores[*u].right),
            };
            if !fits || (at + 1 == nodes.len() && core.right != 1) {
                return Err(Error::Shape(format!(
                    "core {at} of size {:?} does not fit its tree",
                    core.size()
                )));
            }
        }
        Ok(Self { tree, cores })
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Ranks of all nodes but the root, in the order of the cores.
    pub fn ranks(&self) -> Vec<usize> {
        self.cores.iter().take(self.cores.len() - 1).map(|core| core.right).collect()
    }
}

impl Decomposed for Hierarchical {
    fn cores(&self) -> Vec<&Core<f64>> {
        self.cores.iter().collect()
    }

    fn modes(&self) -> Vec<usize> {
        let mut modes = vec![0; self.cores.len().div_ceil(2)];
        for (node, core) in self.tree.listed().iter().zip(&self.cores) {
            if let Node::Leaf(mode) = node {
                modes[*mode] = core.mode;
            }
        }
        modes
    }

    fn reconstruct(&self) -> Vec<f64> {
        let (cores, mut exponent) = tame_all(&self.cores);
        let mut bases: Vec<Vec<f64>> = Vec::with_capacity(cores.len()); // [n_t, r_t]
        for (node, core) in self.tree.listed().iter().zip(&cores) {
            let (r_s, r_u, r_t) = core.size();
            let basis = match node {
                Node::Leaf(_) => core.values.clone(),
                Node::Inner(s, u) => {
                    let (left, right) = (std::mem::take(&mut bases[*s]), std::mem::take(&mut bases[*u]));
                    let (n_s, n_u) = (left.len() / r_s, right.len() / r_u);
                    let half = linear::product((&left, n_s, r_s), (&core.values, r_s, r_u * r_t));
                    let half = Full { values: half, sizes: vec![n_s, r_u, r_t] }.permuted(&[0, 2, 1]);
                    let whole =
                        linear::product_with_transposed((&half.values, n_s * r_t, r_u), (&right, n_u, r_u));
                    let whole = Full { values: whole, sizes: vec![n_s, r_t, n_u] };
                    let mut basis = whole.permuted(&[0, 2, 1]).values; // [n_s n_u, r_t]
                    exponent += super::tame(&mut basis);
                    basis
                }
            };
            bases.push(basis);
        }
        let (own, order) = (self.modes(), self.tree.leaves());
        let sizes = order.iter().map(|mode| own[*mode]).collect();
        let whole = Full { values: bases.pop().unwrap_or_default(), sizes };
        let places = (0..order.len()).map(|mode| order.iter().position(|at| *at == mode).unwrap_or(mode));
        let mut values = whole.permuted(&places.collect::<Vec<_>>()).values;
        shift(&mut values, exponent);
        values
    }
}

/// Decomposes a full tensor, row-major over `modes`, along a tree: leaves first, each node by a truncated singular value
/// decomposition of what the nodes before it left. Ranks are one a node but the root, in the order of the cores of
/// [`Hierarchical`]; [`Tree::ranks`] makes them.
///
/// All cores but the root's are orthonormal. The projections commute and none enlarges a singular value, so the error
/// is at most the root of the summed squares of the best errors of the unfoldings, the two of the root's sons being one:
/// at most `sqrt(2 d - 3)` times that of the best decomposition of the same ranks.
///
/// # Cost
/// `O(n · prod n_k)` for the first leaf; the others work on what is left. Two copies of the tensor in `f64`.
///
/// # Errors
/// [`Error::Shape`] for a tree, modes or ranks that cannot be, [`Error::Size`], [`Error::NotFinite`],
/// [`Error::Accuracy`].
///
/// # Paper
/// Grasedyck, "Hierarchical Singular Value Decomposition of Tensors", SIAM J. Matrix Anal. Appl. 31(4), 2010: format,
/// bound (Theorem 3.11).
///
/// # Departs
/// Leaves come first and each step truncates what is left, as in Tobler and Kressner, "Algorithm 941: htucker", ACM
/// Trans. Math. Softw. 40(3), 2014; the paper starts from the root, whose unfolding is the largest, on the full tensor.
///
/// # Examples
/// ```
/// use tt_core::decomposition::{Decomposed, Tree, Truncation, hierarchical_svd};
///
/// // A sum of indices has rank 2 at every node.
/// let values: Vec<f64> = (0..4 * 5 * 6 * 3).map(|at| (at / 90 + at / 18 % 5 + at / 3 % 6 + at % 3) as f64).collect();
/// let tree = Tree::balanced(4);
/// let found = hierarchical_svd(&values, &[4, 5, 6, 3], &tree, &Truncation::RelativeError(1e-10))?;
/// assert_eq!(found.ranks(), [2; 6]);
/// assert!((found.reconstruct()[359] - 14.0).abs() < 1e-8);
/// # Ok::<(), tt_core::Error>(())
/// ```
pub fn hierarchical_svd<T: Scalar>(
    values: &[T],
    modes: &[usize],
    tree: &Tree,
    truncation: &Truncation,
) -> Result<Hierarchical> {
    tree.check(modes.len())?;
    let (mut rest, taken) = Full::new(values, modes)?;
    let (nodes, largest) = (tree.listed(), tree.largest_ranks(modes)?);
    let cuts = (2 * modes.len()).saturating_sub(3);
    let (bounds, tolerance) = truncation.allowed(&largest, cuts, rest.norm())?;
    if let Truncation::Ranks(ranks) = truncation {
        fitting(&nodes, ranks)?;
    }
    let mut cores = Vec::with_capacity(nodes.len());
    // Which node each axis of what is left belongs to.
    let leaf = |mode: usize| nodes.iter().position(|node| *node == Node::Leaf(mode));
    let mut axes: Vec<usize> = (0..modes.len()).filter_map(leaf).collect();
    for (at, node) in nodes.iter().enumerate() {
        let own = match node {
            Node::Leaf(_) => vec![at],
            Node::Inner(s, u) => vec![*s, *u],
        };
        let first = own.iter().filter_map(|node| axes.iter().position(|axis| axis == node));
        let mut order: Vec<usize> = first.collect();
        order.extend((0..axes.len()).filter(|axis| !own.contains(&axes[*axis])));
        axes = order.iter().map(|axis| axes[*axis]).collect();
        rest = rest.permuted(&order);
        let (left, mode) = if own.len() == 1 { (1, rest.sizes[0]) } else { (rest.sizes[0], rest.sizes[1]) };
        let Some(bound) = bounds.get(at) else {
            cores.push(Core { left, mode, right: 1, values: std::mem::take(&mut rest.values) });
            break;
        };
        // What is left of the root's second son has the rank of the first, and nothing more to lose.
        let both_sons = matches!(nodes.last(), Some(Node::Inner(_, u)) if *u == at);
        let tolerance = if both_sons { 0.0 } else { tolerance };
        let rows = left * mode;
        let split = linear::split((&rest.values, rows, rest.values.len() / rows), *bound, tolerance)?;
        cores.push(Core { left, mode, right: split.rank, values: split.left });
        rest.values = split.right;
        rest.sizes.splice(..own.len(), [split.rank]);
        axes.splice(..own.len(), [at]);
    }
    let root = cores.len() - 1;
    restore(&mut cores, root, taken);
    Ok(Hierarchical { tree: tree.clone(), cores })
}

/// Refuses ranks of which one is above the product of the other two at a node.
fn fitting(nodes: &[Node], ranks: &[usize]) -> Result<()> {
    for (at, node) in nodes.iter().enumerate() {
        let Node::Inner(s, u) = *node else { continue };
        let own = ranks.get(at).copied().unwrap_or(1);
        let sides = [own, ranks[s], ranks[u]];
        for (k, rank) in sides.iter().enumerate() {
            let others = sides[(k + 1) % 3].saturating_mul(sides[(k + 2) % 3]);
            if *rank > others {
                return Err(Error::Shape(format!(
                    "ranks {ranks:?}: node {at} joins ranks {} and {} to {own}, and none can be above the product of \
                     the other two",
                    ranks[s], ranks[u]
                )));
            }
        }
    }
    Ok(())
}
