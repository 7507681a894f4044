//! Rings, canonical and Tucker decompositions, block terms and trees: against their definitions, the best known bounds,
//! and tensors that have the format.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bad;
mod errors;
mod exact;
mod layers;
mod sizes;

use rand::RngExt;
use tt_core::decomposition::{
    Alternating, Blocks, Core, Decomposed, Hierarchical, Ring, Scalar, Tree, Truncation, Tucker, block_terms,
    canonical, hierarchical_svd, hooi, hosvd, ring_als, ring_svd, unfolding_singular_values,
};
use tt_core::rng::stream;

fn draw(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = stream(seed, "test/factorizations");
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn core(left: usize, mode: usize, right: usize, seed: u64) -> Core<f64> {
    Core::new(left, mode, right, draw(left * mode * right, seed)).unwrap()
}

fn ring(modes: &[usize], ranks: &[usize], seed: u64) -> Ring {
    let next = |k: usize| ranks[(k + 1) % ranks.len()];
    let cores = modes.iter().enumerate().map(|(k, mode)| core(ranks[k], *mode, next(k), seed + k as u64));
    Ring::new(cores.collect()).unwrap()
}

fn tucker(modes: &[usize], ranks: &[usize], seed: u64) -> Tucker {
    let factors = modes.iter().zip(ranks).enumerate().map(|(k, (n, r))| core(1, *n, *r, seed + k as u64));
    Tucker::new(factors.collect(), draw(ranks.iter().product(), seed + 99)).unwrap()
}

fn blocks(modes: &[usize], ranks: &[usize], count: usize, seed: u64) -> Blocks {
    Blocks::new((0..count).map(|at| tucker(modes, ranks, seed + 100 * at as u64)).collect()).unwrap()
}

/// `((0 2) 1)` and the like, from nested pairs.
fn pair(left: Tree, right: Tree) -> Tree {
    Tree::Node(Box::new(left), Box::new(right))
}

/// A tree over four modes that are neither in order nor in halves.
fn crooked() -> Tree {
    pair(Tree::Leaf(2), pair(pair(Tree::Leaf(3), Tree::Leaf(0)), Tree::Leaf(1)))
}

/// Sizes of the cores of a tree, sons first.
fn sizes(tree: &Tree, modes: &[usize], ranks: &mut dyn Iterator<Item = usize>) -> Vec<[usize; 3]> {
    let mut below = match tree {
        Tree::Leaf(mode) => vec![[1, modes[*mode], 1]],
        Tree::Node(left, right) => {
            let (mut left, right) = (sizes(left, modes, ranks), sizes(right, modes, ranks));
            let own = [left.last().unwrap()[2], right.last().unwrap()[2], 1];
            left.extend(right);
            left.push(own);
            left
        }
    };
    below.last_mut().unwrap()[2] = ranks.next().unwrap_or(1);
    below
}

fn hierarchical(tree: &Tree, modes: &[usize], ranks: &[usize], seed: u64) -> Hierarchical {
    let sizes = sizes(tree, modes, &mut ranks.iter().copied());
    let cores = sizes.iter().enumerate().map(|(at, [a, b, c])| core(*a, *b, *c, seed + at as u64));
    Hierarchical::new(tree.clone(), cores.collect()).unwrap()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

/// The best error of the unfolding whose rows are these modes, at a rank.
fn tail(values: &[f64], modes: &[usize], rows: &[usize], rank: usize) -> f64 {
    let others = (0..modes.len()).filter(|k| !rows.contains(k));
    let order: Vec<usize> = rows.iter().copied().chain(others).collect();
    let mut moved = vec![0.0; values.len()];
    for (at, value) in values.iter().enumerate() {
        let index = index(at, modes);
        moved[order.iter().fold(0, |place, k| place * modes[*k] + index[*k])] = *value;
    }
    let sizes: Vec<usize> = order.iter().map(|k| modes[*k]).collect();
    let singular = unfolding_singular_values(&moved, &sizes, rows.len()).unwrap();
    norm(&singular[rank.min(singular.len())..])
}

/// The indices of a place, row-major.
fn index(mut at: usize, modes: &[usize]) -> Vec<usize> {
    let mut index = vec![0; modes.len()];
    for k in (0..modes.len()).rev() {
        index[k] = at % modes[k];
        at /= modes[k];
    }
    index
}

fn patient() -> Alternating {
    Alternating { sweeps: 2000, change: 1e-9, starts: 6, seed: 1 }
}

/// Every decomposition at some ranks of a tensor of three modes of at least 3: its name, numbers and error.
type Made = (&'static str, Vec<f64>, f64);

fn all<T: Scalar>(values: &[T], modes: &[usize; 3], options: &Alternating) -> tt_core::Result<Vec<Made>> {
    fn numbers(of: &impl Decomposed) -> Vec<f64> {
        of.cores().iter().flat_map(|core| core.values().to_vec()).collect()
    }
    fn made<F: Decomposed>(name: &'static str, found: &F, error: impl Fn(Vec<f64>) -> f64) -> Made {
        (name, numbers(found), error(found.reconstruct()))
    }
    let wide: Vec<f64> = values.iter().map(|value| value.to_f64()).collect();
    let largest = wide.iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let error = |found: Vec<f64>| {
        let scaled = |values: &[f64]| values.iter().map(|value| value / largest).collect::<Vec<_>>();
        distance(&scaled(&found), &scaled(&wide)) / norm(&scaled(&wide)).max(f64::MIN_POSITIVE)
    };
    let (ranks, tree) = (Truncation::Ranks(vec![2, 2, 2]), Tree::balanced(3));
    let of_tree = Truncation::Ranks(tree.ranks(modes, 2, 2)?);
    let fits = |fit: f64, found: Made| {
        assert!((fit - found.2).abs() <= 1e-12 + 1e-6 * fit, "{}: {fit} is {}", found.0, found.2);
        found
    };
    let (of_hooi, of_ring) =
        (hooi(values, modes, &ranks, options)?, ring_als(values, modes, &[2; 3], options)?);
    let of_terms = canonical(values, modes, 3, options)?;
    let of_blocks = block_terms(values, modes, 2, &[2; 3], options)?;
    Ok(vec![
        made("hosvd", &hosvd(values, modes, &ranks)?, error),
        fits(of_hooi.relative_error, made("hooi", &of_hooi.found, error)),
        made("tree", &hierarchical_svd(values, modes, &tree, &of_tree)?, error),
        made("ring svd", &ring_svd(values, modes, &ranks)?, error),
        fits(of_ring.relative_error, made("ring als", &of_ring.found, error)),
        fits(of_terms.relative_error, made("canonical", &of_terms.found, error)),
        fits(of_blocks.relative_error, made("blocks", &of_blocks.found, error)),
    ])
}
