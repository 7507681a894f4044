//! What models say of clips, for people and for programs.

use anyhow::Result;
use bench_suite::predict::{PredictOptions, predict};
use std::io::Write as _;
use std::path::Path;

use super::print_json;

#[expect(clippy::print_stdout, reason = "the answer is what the verb is for")]
pub(crate) fn run_predict(options: &PredictOptions, json: bool) -> Result<()> {
    let mut all = Vec::new();
    let result = predict(options, &mut |prediction| {
        if let Some(error) = &prediction.error {
            tracing::error!("{}: {error}", prediction.clip);
        } else if !json {
            println!("{} ({} frames)", prediction.clip, prediction.frames);
            for class in &prediction.classes {
                println!("  {:5.1} %  {}", class.probability * 100.0, class.class.escape_debug());
            }
        }
        all.push(prediction.clone());
    });
    if json && (result.is_ok() || !all.is_empty()) {
        print_json(&all)?;
    }
    result
}

pub(crate) fn run_live(model: &Path, top: usize, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut times = bench_suite::live::live(model, top, &mut std::io::stdin().lock(), &mut |answer| {
        if json {
            writeln!(out, "{}", serde_json::to_string(answer)?)?;
        } else {
            write!(out, "{:6}", answer.frames)?;
            for class in &answer.classes {
                write!(out, "  {:5.1} % {}", class.probability * 100.0, class.class.escape_debug())?;
            }
            writeln!(out)?;
        }
        Ok(out.flush()?)
    })?;
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    tracing::info!("{} frames: {median:.0?} each in the model (median), {worst:.0?} at most", times.len());
    Ok(())
}
