//! Frames of any size: modes that are left open are planned.

use bench_suite::spec::Spec;

use crate::run::Run;

#[test]
fn modes_left_open_are_planned_and_recorded() {
    let run = Run::new(&[
        "model.input_modes=[]",
        "model.mlp_input_modes=[]",
        "model.names=[\"tt-gru\", \"tt-mlp\"]",
        "train.epochs.tt-gru=1",
        "train.epochs.tt-mlp=1",
    ]);
    let text = std::fs::read_to_string(run.dir().join("plan.json")).unwrap();
    let plan: bench_suite::record::Plan = serde_json::from_str(&text).unwrap();
    let spec = Spec::from_toml(&plan.config, "plan").unwrap();
    assert_eq!(spec.model.input_modes, [4, 5, 6, 8], "960 numbers a frame");
    assert_eq!(spec.model.mlp_input_modes.iter().product::<usize>(), spec.model.mlp_frames * 960);
    for cell in run.cells() {
        run.finish(&cell, "");
    }
}
