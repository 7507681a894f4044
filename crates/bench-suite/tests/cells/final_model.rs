//! A model of all clips, in a file that says what it is.

use std::fs;

use bench_suite::events::FILE;
use bench_suite::model_file::load;
use bench_suite::record::FinalRecord;
use candle_core::Device;

use crate::run::Run;

#[test]
fn a_final_model_sees_every_clip_and_has_no_score() {
    let run = Run::new(&["protocol.kind=\"final\"", "model.names=[\"tt-gru\"]", "train.epochs.tt-gru=3"]);
    let cell = "tt-gru.final.scaled.f0.s0";
    assert_eq!(run.cells(), [cell]);
    run.finish(cell, "");
    let mut names: Vec<String> = fs::read_dir(run.folder(cell))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["cell.json", FILE, "lock", "weights.safetensors"], "nothing was predicted");
    let record: FinalRecord =
        serde_json::from_slice(&fs::read(run.folder(cell).join("cell.json")).unwrap()).unwrap();
    assert_eq!((record.clips, record.curve.len()), (36, 3));
    assert!(record.curve.iter().all(|point| point.test_value.is_none()));
    assert!(record.curve[2].train_loss < record.curve[0].train_loss, "{:?}", record.curve);
}

/// Away from its run, and in the folder of a run whose weights say nothing of themselves.
#[test]
fn a_models_file_is_enough_to_build_it() {
    let run = Run::new(&["model.names=[\"tt-gru\"]", "train.epochs.tt-gru=1"]);
    let [cell] = &run.cells()[..] else { panic!("one cell") };
    run.finish(cell, "");
    let weights = run.folder(cell).join("weights.safetensors");
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("model.safetensors");
    fs::copy(&weights, &file).unwrap();
    let (about, spec, model) = load(&file, &Device::Cpu).unwrap();
    assert_eq!(
        (about.cell.as_str(), about.model.as_str(), about.multi_label),
        (cell.as_str(), "tt-gru", false)
    );
    assert_eq!(about.classes, ["a", "b", "c", "d"]);
    assert_eq!((spec.data.width, spec.data.height), (20, 16));
    let values = |model: &dyn tt_rnn::models::Model| -> Vec<Vec<f32>> {
        let values = |p: tt_rnn::parameters::Parameter| {
            p.var.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        model.parameters().into_iter().map(values).collect()
    };

    let (tensors, header) = tt_rnn::checkpoint::load(&file).unwrap();
    assert!(header.contains("\"cell\""), "{header}");
    let silent: Vec<_> = tensors.into_iter().collect();
    tt_rnn::checkpoint::save(&weights, &silent, "").unwrap();
    let (again, _, same) = load(&weights, &Device::Cpu).unwrap();
    assert_eq!(again, about);
    assert_eq!(values(same.as_ref()), values(model.as_ref()));
    tt_rnn::checkpoint::save(&file, &silent, "").unwrap();
    let error = format!("{:#}", load(&file, &Device::Cpu).unwrap_err());
    assert!(error.contains("model.safetensors does not describe its model"), "{error}");
}
