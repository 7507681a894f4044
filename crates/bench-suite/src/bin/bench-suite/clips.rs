//! What decoding makes of files: our side of `bench decode`, and damaged clips.

use anyhow::Result;
use std::path::{Path, PathBuf};

#[expect(clippy::print_stdout, reason = "the answer is what the verb is for")]
pub(crate) fn run_decode(width: u32, height: u32, clips: &[PathBuf]) -> Result<()> {
    use video_data::decode::{Decoder, Limits, find_worker};
    let spec = video_data::FrameSpec {
        strict: true,
        ..video_data::FrameSpec::rgb(width, height, video_data::rate::Rate::Native)
    };
    let mut decoder = Decoder::new(&find_worker()?, Limits::default());
    let mut frames = 0;
    for clip in clips {
        let outcome = decoder.decode(clip, &spec, &mut |_| Ok(()))?;
        if let Some(reason) = outcome.reason {
            return Err(video_data::Error::Invalid(format!("{}: {reason}", clip.display())).into());
        }
        frames += outcome.frames;
    }
    println!("{frames}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the verdict is what the verb is for")]
pub(crate) fn run_torture_clips(count: usize, seed: u64, dir: &Path, jobs: usize) -> Result<()> {
    let tallies = video_data::damage::torture(dir, count, seed, jobs, None, &mut |codec, reason| {
        tracing::warn!("{codec}: skipped: {reason}");
    })?;
    println!("codec,mutation,clips,unharmed,refused,flagged,silent,hangs,crashes,workers_lost");
    let mut all = video_data::damage::Tally::default();
    for ((codec, mutation), tally) in &tallies {
        println!("{codec},{mutation},{}", tally.fields());
        all.add(tally);
    }
    println!("{}", all.verdict());
    anyhow::ensure!(!tallies.is_empty(), "no codec could be encoded: nothing was tested");
    anyhow::ensure!(all.is_within_bars(), "a bar is missed: no crash, no hang, silent below 29 in 480");
    Ok(())
}
