//! The layer of the released code, computed by `golden/released_layer.py`, against every backend.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use tt_core::TtShape;
use tt_core::apply::{Affine, Fused, Isa, Rows, Saved, reference};

type Rowset = BTreeMap<String, Vec<f64>>;

fn cases() -> BTreeMap<String, Rowset> {
    let mut cases = BTreeMap::<String, Rowset>::new();
    for line in include_str!("golden/released_layer.csv").lines() {
        let mut fields = line.split(',');
        let (case, name) = (fields.next().unwrap(), fields.next().unwrap());
        let values = fields.map(|field| field.parse().unwrap()).collect();
        cases.entry(case.to_owned()).or_default().insert(name.to_owned(), values);
    }
    cases
}

fn shape(rows: &Rowset) -> TtShape {
    let list = |name: &str| rows[name].iter().map(|&v| v as usize).collect::<Vec<_>>();
    TtShape::new(&list("input_modes"), &list("output_modes"), &list("ranks"), list("gates")[0]).unwrap()
}

/// Largest error over the largest entry.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let most = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    found.iter().zip(expected).fold(0.0_f64, |m, (f, e)| m.max((f - e).abs())) / most
}

#[test]
fn the_reference_is_the_released_layer() {
    let cases = cases();
    assert_eq!(cases.len(), 3);
    for rows in cases.values() {
        let shape = shape(rows);
        let y = reference::forward(&shape, &rows["x"], &rows["cores"]).unwrap();
        let grads = reference::backward(&shape, &rows["x"], &rows["cores"], &rows["dy"]).unwrap();
        // f64 sums of at most some thousand terms of order 1.
        assert!(error(&y, &rows["y"]) < 1e-13);
        assert!(error(&grads.cores, &rows["dcores"]) < 1e-13);
        assert!(error(&grads.x, &rows["dx"]) < 1e-13);
    }
}

#[test]
fn the_fused_kernel_is_the_released_layer() {
    let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    for isa in Isa::available() {
        for rows in cases().values() {
            let (shape, x, cores) = (shape(rows), narrow(&rows["x"]), narrow(&rows["cores"]));
            let fused = Fused::with_isa(&shape, Affine::IDENTITY, isa);
            let mut saved = Saved::default();
            let (mut y, mut dcores) = (vec![0.0; rows["y"].len()], vec![0.0; cores.len()]);
            let mut dx = vec![0.0; x.len()];
            fused.forward(Rows::F32(&x), &cores, &mut y, Some(&mut saved)).unwrap();
            let dy = narrow(&rows["dy"]);
            fused.backward(Rows::F32(&x), &cores, &saved, &dy, &mut dcores, Some(&mut dx)).unwrap();
            // Four products of some ten terms each, in f32: some ten eps (1.2e-7) of the largest entry.
            assert!(error(&wide(&y), &rows["y"]) < 2e-6);
            assert!(error(&wide(&dcores), &rows["dcores"]) < 2e-6);
            assert!(error(&wide(&dx), &rows["dx"]) < 2e-6);
        }
    }
}
