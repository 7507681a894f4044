//! What cannot be decomposed or asked for is named.

use super::*;
use tt_core::Error;

const MODES: [usize; 3] = [3, 4, 5];

#[test]
fn tensors_of_zeros_and_modes_of_one_have_decompositions() {
    let options = Alternating::default();
    for (name, numbers, error) in all(&[0.0; 60], &MODES, &options).unwrap() {
        assert!(error == 0.0 && numbers.iter().all(|value| value.is_finite()), "{name}: {error}");
    }
    let values = draw(5, 1);
    for modes in [vec![5], vec![1, 5], vec![1, 1, 5, 1]] {
        let (d, tree) = (modes.len(), Tree::balanced(modes.len()));
        let exact = Truncation::RelativeError(1e-9);
        let close = |found: Vec<f64>| assert!(distance(&found, &values) < 1e-12, "{modes:?}: {found:?}");
        close(hosvd(&values, &modes, &exact).unwrap().reconstruct());
        close(hooi(&values, &modes, &exact, &options).unwrap().found.reconstruct());
        close(hierarchical_svd(&values, &modes, &tree, &exact).unwrap().reconstruct());
        close(ring_svd(&values, &modes, &exact).unwrap().reconstruct());
        close(ring_als(&values, &modes, &vec![1; d], &options).unwrap().found.reconstruct());
        close(canonical(&values, &modes, 1, &options).unwrap().found.reconstruct());
        close(block_terms(&values, &modes, 1, &vec![1; d], &options).unwrap().found.reconstruct());
    }
}

#[test]
fn numbers_that_are_none_are_named() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut values = draw(60, 1);
        values[17] = bad;
        let error = all(&values, &MODES, &Alternating::default()).unwrap_err();
        assert!(matches!(error, Error::NotFinite { index: 17, .. }), "{error}");
        let refused = |error: Error| assert!(error.to_string().starts_with("tensor[17] is "), "{error}");
        let ranks = Truncation::Ranks(vec![1; 3]);
        refused(hosvd(&values, &MODES, &ranks).unwrap_err());
        refused(hooi(&values, &MODES, &ranks, &patient()).unwrap_err());
        refused(
            hierarchical_svd(&values, &MODES, &Tree::balanced(3), &Truncation::Ranks(vec![1; 4]))
                .unwrap_err(),
        );
        refused(ring_svd(&values, &MODES, &ranks).unwrap_err());
        refused(ring_als(&values, &MODES, &[1; 3], &patient()).unwrap_err());
        refused(canonical(&values, &MODES, 1, &patient()).unwrap_err());
        refused(block_terms(&values, &MODES, 1, &[1; 3], &patient()).unwrap_err());
    }
}

/// The message of what must fail.
fn text<T: std::fmt::Debug>(result: tt_core::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn ranks_above_the_possible_are_named() {
    let values = draw(60, 1);
    let ranks = |ranks: &[usize]| Truncation::Ranks(ranks.to_vec());
    let shape = "invalid shape: ";
    let expect = |found: String, wanted: &str| assert_eq!(found.strip_prefix(shape), Some(wanted));
    expect(
        text(hosvd(&values, &MODES, &ranks(&[3, 5, 5]))),
        "ranks [3, 5, 5]: expected 3 from 1 to [3, 4, 5]",
    );
    expect(
        text(hosvd(&values, &MODES, &ranks(&[3, 0, 5]))),
        "ranks [3, 0, 5]: expected 3 from 1 to [3, 4, 5]",
    );
    expect(text(hosvd(&values, &MODES, &ranks(&[2, 2]))), "ranks [2, 2]: expected 3 from 1 to [3, 4, 5]");
    expect(
        text(hooi(&values, &MODES, &ranks(&[2, 1, 5]), &patient())),
        "rank 5 of mode 3 in ranks [2, 1, 5]: at most the product of the others, 2",
    );
    let tree = Tree::balanced(3);
    expect(
        text(hierarchical_svd(&values, &MODES, &tree, &ranks(&[3, 4, 6, 5]))),
        "ranks [3, 4, 6, 5]: expected 4 from 1 to [3, 4, 5, 5]",
    );
    expect(
        text(hierarchical_svd(&values, &MODES, &tree, &ranks(&[2, 2, 5, 5]))),
        "ranks [2, 2, 5, 5]: node 2 joins ranks 2 and 2 to 5, and none can be above the product of the other two",
    );
    expect(
        text(ring_svd(&values, &MODES, &ranks(&[2, 7, 2]))),
        "rank 7 of bond 1 in ranks [2, 7, 2]: at most 6, the mode times the other rank of the core beside it",
    );
    expect(
        text(ring_als(&values, &MODES, &[2, 2], &patient())),
        "ranks [2, 2]: a ring of 3 modes has 3 ranks of at least 1",
    );
    expect(text(canonical(&values, &MODES, 13, &patient())), "ranks [13]: expected 1 from 1 to [12]");
    expect(
        text(block_terms(&values, &MODES, 13, &[1; 3], &patient())),
        "13 terms for modes [3, 4, 5]: from 1 to 12",
    );
    expect(
        text(block_terms(&values, &MODES, 0, &[1; 3], &patient())),
        "0 terms for modes [3, 4, 5]: from 1 to 12",
    );
    expect(
        text(block_terms(&values, &MODES, 2, &[4, 4, 4], &patient())),
        "ranks [4, 4, 4]: expected 3 from 1 to [3, 4, 5]",
    );
}

#[test]
fn wishes_that_cannot_be_are_named() {
    let values = draw(60, 1);
    let missing = pair(Tree::Leaf(0), pair(Tree::Leaf(1), Tree::Leaf(1)));
    let found = text(hierarchical_svd(&values, &MODES, &missing, &Truncation::RelativeError(0.1)));
    assert!(found.contains("the tree (1 (2 2)) misses mode 3 of 3"), "{found}");
    for accuracy in [0.0, -1.0, f64::NAN] {
        let truncation = Truncation::RelativeError(accuracy);
        let refused = |error: Error| assert!(matches!(error, Error::Accuracy(_)), "{error}");
        refused(hosvd(&values, &MODES, &truncation).unwrap_err());
        refused(hierarchical_svd(&values, &MODES, &Tree::balanced(3), &truncation).unwrap_err());
        refused(ring_svd(&values, &MODES, &truncation).unwrap_err());
        refused(canonical(&values, &MODES, 1, &Alternating { change: accuracy, ..patient() }).unwrap_err());
    }
    for options in [Alternating { sweeps: 0, ..patient() }, Alternating { starts: 0, ..patient() }] {
        assert!(text(all(&values, &MODES, &options)).contains("both must be at least 1"));
    }
    for modes in [[3, 0, 5], [3, 4, 6]] {
        let error = all(&values, &modes, &patient()).unwrap_err();
        assert!(matches!(error, Error::Shape(_) | Error::Size { .. }), "{error}");
    }
    assert!(matches!(canonical::<f64>(&[], &[], 1, &patient()), Err(Error::Shape(_))), "no modes");
    assert!(matches!(hosvd::<f64>(&[], &[2; 64], &Truncation::RelativeError(0.1)), Err(Error::Size { .. })));
}

#[test]
fn cores_that_do_not_fit_are_refused() {
    assert!(Ring::new(vec![core(2, 3, 3, 1), core(3, 3, 1, 2)]).is_err());
    assert!(Tucker::new(vec![core(1, 3, 2, 1)], vec![1.0; 3]).is_err());
    assert!(Tucker::new(Vec::new(), Vec::new()).is_err());
    assert!(Blocks::new(vec![tucker(&[3, 4], &[2, 2], 1), tucker(&[3, 4], &[2, 1], 2)]).is_err());
    assert!(
        Hierarchical::new(Tree::balanced(2), vec![core(1, 3, 2, 1), core(1, 3, 2, 2), core(2, 3, 1, 3)])
            .is_err()
    );
    assert!(Hierarchical::new(Tree::balanced(2), vec![core(1, 3, 2, 1), core(1, 3, 2, 2)]).is_err());
}
