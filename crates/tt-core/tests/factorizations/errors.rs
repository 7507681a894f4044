//! Errors at given ranks beside the best known bounds, and errors asked for.

use super::*;

/// Nodes of a tree but the root, as the modes below them, in the order of its cores.
fn below(tree: &Tree) -> Vec<Vec<usize>> {
    match tree {
        Tree::Leaf(mode) => vec![vec![*mode]],
        Tree::Node(left, right) => {
            let (mut all, right) = (below(left), below(right));
            let own = [all.last().unwrap().clone(), right.last().unwrap().clone()].concat();
            all.extend(right);
            all.push(own);
            all
        }
    }
}

/// The root of the summed squares of the best errors of the unfoldings; the root's sons are one.
fn bound_of_tree(tree: &Tree, values: &[f64], modes: &[usize], ranks: &[usize]) -> f64 {
    let nodes = below(tree);
    let cuts = ranks.iter().zip(&nodes).take(ranks.len() - 1);
    norm(&cuts.map(|(rank, rows)| tail(values, modes, rows, *rank)).collect::<Vec<_>>())
}

#[test]
fn truncation_stays_within_its_bounds() {
    let modes = [4, 5, 3, 6];
    let mut worst = [0.0_f64; 3];
    for seed in 0..8 {
        let values = draw(360, seed);
        for rank in 1..4 {
            let ranks = Truncation::Ranks(vec![rank; 4]);
            let tails: Vec<f64> = (0..4).map(|k| tail(&values, &modes, &[k], rank)).collect();
            let error = |found: Vec<f64>| distance(&found, &values);
            let first = error(hosvd(&values, &modes, &ranks).unwrap().reconstruct());
            let fit = hooi(&values, &modes, &ranks, &patient()).unwrap();
            let then = error(fit.found.reconstruct());
            assert!(then <= first * (1.0 + 1e-12), "sweeps enlarged {first} to {then}");
            // No decomposition of these ranks is below the best of any unfolding.
            let least = tails.iter().fold(0.0_f64, |a, b| a.max(*b));
            assert!(then > least * (1.0 - 1e-9));
            worst[0] = worst[0].max(first / norm(&tails));
            worst[1] = worst[1].max(then / norm(&tails));
            for tree in [Tree::balanced(4), Tree::linear(4), crooked()] {
                let ranks = tree.ranks(&modes, rank, rank + 1).unwrap();
                let truncation = Truncation::Ranks(ranks.clone());
                let found = hierarchical_svd(&values, &modes, &tree, &truncation).unwrap();
                let bound = bound_of_tree(&tree, &values, &modes, &ranks);
                worst[2] = worst[2].max(error(found.reconstruct()) / bound);
            }
        }
    }
    eprintln!("errors of hosvd, hooi and trees relative to their bounds: at most {worst:?}");
    assert!(worst.iter().all(|share| *share <= 1.0 + 1e-12), "{worst:?}");
    assert!(worst.iter().all(|share| *share > 0.5), "a bound far above the errors is no test: {worst:?}");
}

#[test]
fn a_relative_error_asked_for_is_kept() {
    for (seed, modes) in
        [(1, vec![4, 5, 3, 6]), (2, vec![5, 1, 7]), (3, vec![9]), (4, vec![6, 8]), (5, vec![2; 7])]
    {
        // Random numbers that fade away, so that there is something to cut.
        let fading = draw(modes.iter().product(), seed).into_iter().enumerate();
        let sum = |at| index(at, &modes).iter().sum::<usize>() as i32;
        let values: Vec<f64> = fading.map(|(at, value)| value * 0.5_f64.powi(sum(at))).collect();
        let tree = Tree::balanced(modes.len());
        for accuracy in [0.5, 0.1, 1e-3, 1e-8] {
            let truncation = Truncation::RelativeError(accuracy);
            let error = |found: Vec<f64>| distance(&found, &values) / norm(&values);
            let of_tree = hierarchical_svd(&values, &modes, &tree, &truncation).unwrap();
            let of_ring = ring_svd(&values, &modes, &truncation).unwrap();
            let of_tucker = hosvd(&values, &modes, &truncation).unwrap();
            let of_sweeps = hooi(&values, &modes, &truncation, &Alternating::default()).unwrap();
            for (name, error) in [
                ("tree", error(of_tree.reconstruct())),
                ("ring", error(of_ring.reconstruct())),
                ("hosvd", error(of_tucker.reconstruct())),
                ("hooi", error(of_sweeps.found.reconstruct())),
            ] {
                assert!(error <= accuracy + 1e-13, "{name} of {modes:?} at {accuracy}: {error}");
            }
            if accuracy == 0.5 && seed == 1 {
                assert!(of_tucker.ranks().iter().product::<usize>() < values.len(), "nothing was cut");
            }
        }
    }
}

#[test]
fn sweeps_never_enlarge_an_error() {
    for seed in 0..3 {
        let values = draw(5 * 4 * 6, seed);
        let modes = [5, 4, 6];
        let mut before = [f64::INFINITY; 4];
        for sweeps in [1, 2, 3, 5, 9, 20] {
            let options = Alternating { sweeps, change: 1e-300, starts: 1, seed };
            let ranks = Truncation::Ranks(vec![2, 2, 3]);
            let errors = [
                hooi(&values, &modes, &ranks, &options).unwrap().relative_error,
                ring_als(&values, &modes, &[2, 3, 2], &options).unwrap().relative_error,
                canonical(&values, &modes, 3, &options).unwrap().relative_error,
                block_terms(&values, &modes, 2, &[2; 3], &options).unwrap().relative_error,
            ];
            for (now, before) in errors.iter().zip(&before) {
                assert!(*now <= before * (1.0 + 1e-12), "{sweeps} sweeps: {errors:?} after {before:?}");
            }
            before = errors;
        }
        let of_cuts = ring_svd(&values, &modes, &Truncation::Ranks(vec![2, 3, 2])).unwrap();
        assert!(before[1] * norm(&values) < distance(&of_cuts.reconstruct(), &values));
        // Greedy deflation by hand.
        let ranks = Truncation::Ranks(vec![2; 3]);
        let first = hosvd(&values, &modes, &ranks).unwrap().reconstruct();
        let rest: Vec<f64> = values.iter().zip(first).map(|(value, first)| value - first).collect();
        let second = hosvd(&rest, &modes, &ranks).unwrap().reconstruct();
        assert!(before[3] * norm(&values) < distance(&second, &rest));
    }
}

#[test]
fn more_starts_are_never_worse() {
    let (values, modes) = (draw(5 * 4 * 6, 9), [5, 4, 6]);
    let mut before = [f64::INFINITY; 3];
    for starts in [1, 2, 4, 8] {
        let options = Alternating { starts, seed: 3, ..Alternating::default() };
        let errors = [
            ring_als(&values, &modes, &[2, 3, 2], &options).unwrap().relative_error,
            canonical(&values, &modes, 3, &options).unwrap().relative_error,
            block_terms(&values, &modes, 2, &[2; 3], &options).unwrap().relative_error,
        ];
        assert!(errors.iter().zip(&before).all(|(now, before)| now <= before), "{errors:?} {before:?}");
        // No decomposition of R terms has an unfolding of a rank above R.
        assert!(errors[1] * norm(&values) > tail(&values, &modes, &[2], 3));
        before = errors;
    }
}

#[test]
fn where_no_best_decomposition_exists_terms_stay_numbers() {
    // a a b + a b a + b a a has rank 3, and decompositions of rank 2 come as near as one likes.
    let unit = |i: usize, at: usize| f64::from(u8::from(i == at));
    let values: Vec<f64> = (0..8)
        .map(|at| {
            let i = index(at, &[2; 3]);
            (0..3).map(|b| (0..3).map(|k| unit(i[k], usize::from(k == b))).product::<f64>()).sum()
        })
        .collect();
    let mut before = f64::INFINITY;
    for sweeps in [10, 100, 1000] {
        // The first start, from singular vectors, is a saddle here.
        let options = Alternating { sweeps, change: 1e-300, starts: 3, seed: 0 };
        let fit = canonical(&values, &[2; 3], 2, &options).unwrap();
        assert!(fit.relative_error < before, "{sweeps} sweeps: {} after {before}", fit.relative_error);
        assert!(fit.found.weights().iter().all(|weight| *weight < 1e6), "{:?}", fit.found.weights());
        before = fit.relative_error;
    }
    assert!(before < 0.1, "{before}");
    let three = canonical(&values, &[2; 3], 3, &patient()).unwrap();
    assert!(three.relative_error < 1e-6, "{}", three.relative_error);
}
