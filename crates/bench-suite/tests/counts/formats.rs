//! Work and budgets of factorized matrices.

use crate::load;
use bench_suite::build::{model_config, size};
use tt_core::apply::Isa;
use tt_core::network::{FORMATS, FormatShape, Modes, Objective, Options, Plan};

/// What a dry run prints of a frame is what the order that is carried out comes to, and U.
#[test]
fn work_of_a_frame_is_that_of_the_plan() {
    let set = ["model.ranks.tr=[3, 3, 4, 3]"];
    let config = model_config(&load("ucf11", &set).unwrap(), 11).unwrap();
    for (cell, gates) in [("gru", 3), ("lstm", 4)] {
        let modes = Modes { inputs: vec![8, 20, 20, 18], outputs: vec![4; 4], gates };
        let ring = FORMATS.into_iter().find(|format| format.name() == "tr").unwrap();
        let shape = FormatShape::with_ranks(ring, &modes, &Options::default(), &[3, 3, 4, 3]).unwrap();
        let plan = Plan::new(shape.network(), Objective::Time { isa: Isa::best() });
        let found = size(&config, &format!("tr-{cell}")).unwrap().macs_per_frame;
        assert_eq!(found, plan.macs_per_row + 256 * gates * 256, "{cell}");
        let dense = size(&config, cell).unwrap().macs_per_frame;
        assert_eq!(dense, (57_600 + 256) * gates * 256, "{cell}");
    }
}

#[test]
fn a_budget_below_the_smallest_says_what_it_is_for() {
    let said = |set: &[&str], model: &str| {
        let config = model_config(&load("ucf11", set).unwrap(), 11).unwrap();
        size(&config, model).unwrap_err().to_string()
    };
    let whole = said(&["model.input_weights=41"], "cp-gru");
    assert!(whole.contains("41 weights are asked for") && !whole.contains("gates:"), "{whole}");
    let each = said(&["model.input_weights=41", "model.gates=separate"], "cp-gru");
    assert!(each.contains("13 weights are asked for"), "{each}");
    assert!(each.contains("for each of 3 gates: input_weights = 41 is for all"), "{each}");
}
