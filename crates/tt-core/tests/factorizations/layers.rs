//! The weights of layers: every format finds a matrix that has it, in the order of its network.

use super::*;
use tt_core::network::format::Train;
use tt_core::network::{FORMATS, Format, FormatShape, Modes, Options};

/// Trains too, which as layers have kernels and a decomposition of their own.
fn formats() -> impl Iterator<Item = &'static dyn Format> {
    FORMATS.into_iter().chain([&Train as &dyn Format])
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// The relative error of weights, by the definition of the format.
fn lost(shape: &FormatShape, weights: &[f32], matrix: &[f32]) -> f64 {
    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    distance(&shape.dense(&wide(weights)), &wide(matrix)) / norm(&wide(matrix))
}

#[test]
fn a_matrix_that_has_a_format_is_found_in_it() {
    let search = Alternating { sweeps: 3000, change: 1e-8, starts: 8, seed: 1 };
    let skewed = Options { blocks: 2, tree: Some(pair(pair(Tree::Leaf(2), Tree::Leaf(0)), Tree::Leaf(1))) };
    for options in [Options::default(), skewed] {
        let modes = Modes { inputs: vec![3, 2, 4], outputs: vec![2, 3, 2], gates: 2 };
        for format in formats() {
            let shape = FormatShape::uniform(format, &modes, &options, 2).unwrap();
            let matrix = single(&shape.dense(&draw(shape.network().params(), 5)));
            let fit = shape.decompose(&matrix, &search).unwrap();
            let error = lost(&shape, &fit.found, &matrix);
            eprintln!("{shape}: {error:e} of {:e} after {} sweeps", fit.relative_error, fit.sweeps);
            assert!(error < 1e-5, "{shape}: {error}");
        }
    }
}

#[test]
fn the_error_of_other_matrices_is_the_one_reported() {
    for (inputs, outputs) in [([4, 3, 2].as_slice(), [2, 2, 3].as_slice()), (&[5, 4], &[3, 2]), (&[7], &[6])]
    {
        let modes = Modes { inputs: inputs.to_vec(), outputs: outputs.to_vec(), gates: 1 };
        let matrix = single(&draw(inputs.iter().chain(outputs).product(), 6));
        for format in formats() {
            // Of one mode, blocks are copies of each other: there is no shape.
            if inputs.len() == 1 && format.name() == "bt" {
                continue;
            }
            let mut before = f64::INFINITY;
            for rank in [1, 2, 3] {
                let shape = FormatShape::uniform(format, &modes, &Options::default(), rank).unwrap();
                let fit = shape.decompose(&matrix, &Alternating::default()).unwrap();
                let error = lost(&shape, &fit.found, &matrix);
                assert!((error - fit.relative_error).abs() < 1e-6, "{shape}: {error} {}", fit.relative_error);
                assert!(error <= before + 1e-3, "{shape}: {error} after {before}");
                before = error;
            }
        }
    }
}

#[test]
fn matrices_that_do_not_fit_are_refused() {
    let modes = Modes { inputs: vec![3, 4], outputs: vec![2, 2], gates: 1 };
    for format in formats() {
        let shape = FormatShape::uniform(format, &modes, &Options::default(), 2).unwrap();
        let refused =
            |matrix: &[f32]| shape.decompose(matrix, &Alternating::default()).unwrap_err().to_string();
        assert!(refused(&[1.0; 47]).contains("expected 48 numbers"), "{}", refused(&[1.0; 47]));
        assert!(refused(&[f32::NAN; 48]).contains("needs finite numbers"), "{}", refused(&[f32::NAN; 48]));
    }
    // A matrix of ones has rank 1 at every cut.
    for name in ["tucker", "ht", "tt"] {
        let format = formats().find(|format| format.name() == name).unwrap();
        let shape = FormatShape::uniform(format, &modes, &Options::default(), 2).unwrap();
        let text = shape.decompose(&[1.0; 48], &Alternating::default()).unwrap_err().to_string();
        assert!(text.contains("the matrix has smaller ranks than"), "{text}");
    }
}
