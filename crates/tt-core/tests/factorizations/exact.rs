//! Definitions as loops, and tensors that have the format at the ranks asked for.

use super::*;

/// Sums `term` over all indices below `sizes`.
fn sum(sizes: &[usize], term: impl Fn(&[usize]) -> f64) -> f64 {
    (0..sizes.iter().product()).map(|at| term(&index(at, sizes))).sum()
}

fn at(core: &Core<f64>, a: usize, i: usize, b: usize) -> f64 {
    let (_, mode, right) = core.size();
    core.values()[(a * mode + i) * right + b]
}

fn agrees(found: &impl Decomposed, element: impl Fn(&[usize]) -> f64) {
    let modes = found.modes();
    for (place, value) in found.reconstruct().iter().enumerate() {
        let wanted = element(&index(place, &modes));
        assert!((value - wanted).abs() < 1e-12, "{place}: {value} for {wanted}");
    }
}

#[test]
fn a_ring_is_the_trace_of_its_product() {
    for ranks in [[3, 2, 4], [1, 2, 2], [2, 1, 5]] {
        let ring = ring(&[3, 4, 2], &ranks, 1);
        agrees(&ring, |i| {
            sum(&ranks, |a| (0..3).map(|k| at(ring.cores()[k], a[k], i[k], a[(k + 1) % 3])).product())
        });
    }
}

#[test]
fn tucker_and_block_terms_are_their_sums() {
    let (modes, ranks) = ([3, 4, 2, 5], [2, 3, 1, 2]);
    let element = |term: &Tucker, i: &[usize]| {
        sum(&ranks, |c| {
            let place = c.iter().zip(&ranks).fold(0, |place, (c, r)| place * r + c);
            let factors = c.iter().enumerate().map(|(k, c)| at(&term.factors()[k], 0, i[k], *c));
            term.core()[place] * factors.product::<f64>()
        })
    };
    let one = tucker(&modes, &ranks, 2);
    agrees(&one, |i| element(&one, i));
    let many = blocks(&modes, &ranks, 3, 3);
    agrees(&many, |i| many.terms().iter().map(|term| element(term, i)).sum());
}

/// The vector of a node for a choice of indices.
fn node(tree: &Tree, cores: &mut dyn Iterator<Item = &Core<f64>>, i: &[usize]) -> Vec<f64> {
    match tree {
        Tree::Leaf(mode) => {
            let core = cores.next().unwrap();
            (0..core.size().2).map(|b| at(core, 0, i[*mode], b)).collect()
        }
        Tree::Node(left, right) => {
            let (left, right) = (node(left, cores, i), node(right, cores, i));
            let core = cores.next().unwrap();
            let entry =
                |t| sum(&[left.len(), right.len()], |p| left[p[0]] * right[p[1]] * at(core, p[0], p[1], t));
            (0..core.size().2).map(entry).collect()
        }
    }
}

#[test]
fn a_tree_is_its_nodes_joined() {
    let modes = [3, 4, 2, 5];
    for tree in [Tree::balanced(4), Tree::linear(4), crooked()] {
        let found = hierarchical(&tree, &modes, &[2, 3, 2, 2, 3, 2], 4);
        agrees(&found, |i| node(&tree, &mut found.cores().into_iter(), i)[0]);
    }
}

#[test]
fn a_canonical_decomposition_is_a_weighted_sum_of_products() {
    let values = draw(60, 5);
    let found = canonical(&values, &[3, 4, 5], 3, &Alternating::default()).unwrap().found;
    agrees(&found, |i| {
        sum(&[3], |c| {
            let factors = (0..3).map(|k| at(&found.factors()[k], 0, i[k], c[0]));
            found.weights()[c[0]] * factors.product::<f64>()
        })
    });
    let balanced = found.balanced();
    agrees(&found, |i| sum(&[3], |c| (0..3).map(|k| at(&balanced[k], 0, i[k], c[0])).product()));
    assert!(found.weights().is_sorted_by(|a, b| a >= b) && found.weights()[2] >= 0.0);
    for factor in found.factors() {
        for c in 0..3 {
            let column: Vec<f64> = factor.values().iter().copied().skip(c).step_by(3).collect();
            assert!((norm(&column) - 1.0).abs() < 1e-12);
        }
    }
}

/// Relative distance of a decomposition.
fn lost(found: &impl Decomposed, values: &[f64]) -> f64 {
    distance(&found.reconstruct(), values) / norm(values)
}

#[test]
fn singular_values_find_a_format_at_its_ranks() {
    for seed in 0..5 {
        let (modes, ranks) = ([5, 4, 6, 3], [2, 3, 4, 2]);
        let values = tucker(&modes, &ranks, seed).reconstruct();
        for truncation in [Truncation::Ranks(ranks.to_vec()), Truncation::RelativeError(1e-9)] {
            let found = hosvd(&values, &modes, &truncation).unwrap();
            assert_eq!(found.ranks(), ranks);
            assert!(lost(&found, &values) < 1e-13, "{}", lost(&found, &values));
        }
        for tree in [Tree::balanced(4), Tree::linear(4), crooked()] {
            let ranks = tree.ranks(&modes, 3, 2).unwrap();
            let values = hierarchical(&tree, &modes, &ranks, seed).reconstruct();
            for truncation in [Truncation::Ranks(ranks.clone()), Truncation::RelativeError(1e-9)] {
                let found = hierarchical_svd(&values, &modes, &tree, &truncation).unwrap();
                assert_eq!(found.ranks(), ranks, "{tree:?}");
                assert!(lost(&found, &values) < 1e-13, "{}", lost(&found, &values));
            }
        }
    }
}

#[test]
fn alternating_least_squares_finds_a_format_at_its_ranks() {
    let modes = [6, 5, 7];
    let mut found = [0.0_f64; 3];
    for seed in 0..4 {
        let values = ring(&modes, &[2, 3, 2], seed).reconstruct();
        let fit = ring_als(&values, &modes, &[2, 3, 2], &patient()).unwrap();
        found[0] = found[0].max(lost(&fit.found, &values));
        // R factors of R terms are not orthogonal, and the best decomposition is unique.
        let terms: Vec<_> = (0..4).map(|at| tucker(&modes, &[1; 3], seed + 100 * at)).collect();
        let values = Blocks::new(terms).unwrap().reconstruct();
        let fit = canonical(&values, &modes, 4, &patient()).unwrap();
        found[1] = found[1].max(lost(&fit.found, &values));
        let values = blocks(&modes, &[2; 3], 2, seed).reconstruct();
        let fit = block_terms(&values, &modes, 2, &[2; 3], &patient()).unwrap();
        found[2] = found[2].max(lost(&fit.found, &values));
    }
    eprintln!("ring, canonical and block terms at their own ranks: {found:?}");
    assert!(found.iter().all(|error| *error < 1e-6), "{found:?}");
}

#[test]
fn a_matrix_is_cut_at_its_singular_values_whatever_the_format() {
    let (modes, values) = ([7, 9], draw(63, 7));
    let best = |rank| tail(&values, &modes, &[0], rank);
    let tree = Tree::balanced(2);
    let close = |name: &str, found: &dyn Fn() -> Vec<f64>, rank: usize| {
        let error = distance(&found(), &values) / best(rank);
        assert!((error - 1.0).abs() < 1e-6, "{name}: {error} times the best");
    };
    for rank in [1, 2, 4] {
        let ranks = Truncation::Ranks(vec![rank; 2]);
        close("hosvd", &|| hosvd(&values, &modes, &ranks).unwrap().reconstruct(), rank);
        close("hooi", &|| hooi(&values, &modes, &ranks, &patient()).unwrap().found.reconstruct(), rank);
        close("tree", &|| hierarchical_svd(&values, &modes, &tree, &ranks).unwrap().reconstruct(), rank);
        close(
            "canonical",
            &|| canonical(&values, &modes, rank, &patient()).unwrap().found.reconstruct(),
            rank,
        );
    }
    // Two bonds of a ring, two terms of rank 2.
    for ranks in [[2, 2], [1, 4], [2, 3]] {
        let all = ranks[0] * ranks[1];
        close(
            "ring",
            &|| ring_svd(&values, &modes, &Truncation::Ranks(ranks.to_vec())).unwrap().reconstruct(),
            all,
        );
        close("ring", &|| ring_als(&values, &modes, &ranks, &patient()).unwrap().found.reconstruct(), all);
    }
    close("blocks", &|| block_terms(&values, &modes, 2, &[2, 2], &patient()).unwrap().found.reconstruct(), 4);
}
