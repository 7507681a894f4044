//! Exported graphs in tract against the probabilities of this project: `scan`, `step` and `plain`.
//!
//! tract never reads the activations of GRU, LSTM and RNN, so the form `operator` with hard sigmoids is wrong in it
//! without a word, and it panics at an open batch: that form is left out.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;

const TOLERANCE: f64 = 1e-5;
/// Height and width of the cases' frames.
const FRAME: [usize; 3] = [2, 4, 3];

fn main() -> Result<()> {
    let cases = std::env::args().nth(1).context("name the folder of the cases")?;
    let errors = Path::new(&cases).join("errors.csv");
    let mut rows = std::fs::read_to_string(&errors).context("compare.py comes first")?;
    let mut folders: Vec<_> = std::fs::read_dir(cases)?.collect::<std::io::Result<Vec<_>>>()?;
    folders.sort_by_key(std::fs::DirEntry::file_name);
    let mut wrong = Vec::new();
    for folder in folders.into_iter().filter(|folder| folder.path().is_dir()) {
        let name = folder.file_name().to_string_lossy().into_owned();
        let form = name.rsplit('.').next().unwrap_or_default().to_owned();
        if form == "operator" {
            continue;
        }
        let expected: Vec<Vec<f64>> =
            serde_json::from_slice(&std::fs::read(folder.path().join("probabilities.json"))?)?;
        let clips = std::fs::read(folder.path().join("clips.bin"))?;
        let found = answers(&folder.path().join("model.onnx"), &form, &clips, expected.len());
        let found = found.with_context(|| name.clone())?;
        let pairs = found.iter().zip(expected.iter().flatten());
        let errors = pairs.map(|(found, expected)| (f64::from(*found) - expected).abs());
        // In this order NaN is the largest; of no numbers at all nothing is known either.
        let error = errors.max_by(f64::total_cmp).unwrap_or(f64::NAN);
        println!("{name:24} tract        {error:.1e}");
        rows += &format!("{name},tract,{error:.1e}\n");
        if error.is_nan() || error >= TOLERANCE {
            wrong.push(name);
        }
    }
    std::fs::write(errors, rows)?;
    ensure!(wrong.is_empty(), "off by more than {TOLERANCE}: {wrong:?}");
    Ok(())
}

fn answers(path: &Path, form: &str, clips: &[u8], count: usize) -> Result<Vec<f32>> {
    let model = tract_onnx::onnx().model_for_path(path)?.into_optimized()?.into_runnable()?;
    let bytes = FRAME.iter().product::<usize>();
    let frames = clips.len() / count / bytes;
    let frame = |clip: usize, t: usize| &clips[(clip * frames + t) * bytes..][..bytes];
    let shaped =
        |leading: &[usize], rows: Vec<u8>| Tensor::from_shape(&[leading, &FRAME[..]].concat(), &rows);
    let probabilities =
        |value: &TValue| -> Result<Vec<f32>> { Ok(value.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()) };
    if form == "plain" {
        return probabilities(&model.run(tvec!(shaped(&[count, frames], clips.to_vec())?.into()))?[0]);
    }
    if form != "step" {
        let rows =
            (0..frames).flat_map(|t| (0..count).flat_map(move |clip| frame(clip, t).to_vec())).collect();
        return probabilities(&model.run(tvec!(shaped(&[frames, count], rows)?.into()))?[0]);
    }
    let mut outputs: TVec<TValue> = tvec!();
    for t in 0..frames {
        let rows = (0..count).flat_map(|clip| frame(clip, t).to_vec()).collect();
        let mut inputs: TVec<TValue> = tvec!(shaped(&[count], rows)?.into());
        for state in 1..model.model().input_outlets()?.len() {
            let hidden = model.model().input_fact(state)?.shape[1].to_usize()?;
            inputs.push(match outputs.get(state) {
                Some(last) => last.clone(),
                None => Tensor::zero::<f32>(&[count, hidden])?.into(),
            });
        }
        outputs = model.run(inputs)?;
    }
    probabilities(&outputs[0])
}
