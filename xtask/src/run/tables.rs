//! Records, tables and charts of a run, written as its cells are finished.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use bench_suite::draw::page;
use bench_suite::record::{ParamsRow, Plan};
use bench_suite::results::cells::{final_file, is_done, is_final};
use bench_suite::results::collect::collect;
use bench_suite::results::{Page, Records, classes, hold};

use crate::repo::Repo;
use crate::run::{engine, final_model, summary};
use crate::text::visible;

/// Records, tables and charts of a plan's cells, as far as they are finished.
pub(crate) struct Tables<'a> {
    repo: &'a Repo,
    run_dir: &'a Path,
    plan: &'a Plan,
    command: &'a str,
    /// `results/<experiment>/`.
    dir: PathBuf,
    /// Figure 1's counts.
    params: Vec<ParamsRow>,
    /// How many cells the tables have, and the folder of their records.
    written: Mutex<Option<(usize, PathBuf)>>,
}

impl<'a> Tables<'a> {
    /// Of a run that `command` repeats.
    pub(crate) fn new(
        repo: &'a Repo,
        run_dir: &'a Path,
        plan: &'a Plan,
        out: Option<&Path>,
        command: &'a str,
    ) -> Result<Self> {
        let dir = repo.results(out)?.join(&plan.experiment);
        let params = engine::params(repo)?;
        Ok(Self { repo, run_dir, plan, command, dir, params, written: Mutex::default() })
    }

    /// Writes them, unless no cell was finished since the last time.
    pub(crate) fn write(&self) -> Result<()> {
        let Self { repo, run_dir, plan, command, dir, params, written } = self;
        let done = plan.cells.iter().filter(|cell| is_done(run_dir, cell)).count();
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        if done == written.as_ref().map_or(0, |(cells, _)| *cells) {
            return Ok(());
        }
        let write = || {
            final_model::keep(repo, run_dir, plan)?;
            let mut records = collect(run_dir, plan, params.clone())?;
            for run in &mut records.run_file.runs {
                run.commands.push((*command).to_owned());
            }
            let _held = hold(dir)?;
            let frames = |whole: &Records| engine::strips(repo, run_dir, &classes::shown_clips(whole));
            let run = records.keep(dir, &frames)?;
            page::derive(dir)?;
            anyhow::Ok(run)
        };
        let kept = || format!("nothing is lost: the finished cells are in {}", repo.show(run_dir));
        *written = Some((done, write().with_context(kept)?));
        Ok(())
    }

    /// The last lines: clips left out, where the results are, which data it was.
    pub(crate) fn report(&self) -> Result<()> {
        const SHOWN: usize = 10;
        let Self { repo, run_dir, plan, dir, .. } = self;
        for clip in plan.left_out.iter().take(SHOWN) {
            eprintln!("left out: {} ({})", visible(&clip.clip), visible(&clip.reason));
        }
        if plan.left_out.len() > SHOWN {
            eprintln!("left out: {} more, all named in run.toml", plan.left_out.len() - SHOWN);
        }
        if plan.with_errors > 0 {
            eprintln!(
                "{} clips have decoder errors (decode.strict = true leaves them out)",
                plan.with_errors
            );
        }
        if let Some((_, run)) = &*self.written.lock().unwrap_or_else(PoisonError::into_inner) {
            eprintln!("records in {}", repo.show(run));
            let page = Page::read(dir)?;
            let own: Vec<_> = page.hidden.iter().filter(|row| run.ends_with(&row.run)).collect();
            for row in &own {
                eprintln!("not on the page, {}: {row}", row.why);
            }
            if !own.is_empty() {
                eprintln!("the page shows, of all runs in {}:", repo.show(dir));
            }
            for cell in plan.cells.iter().filter(|cell| is_final(cell) && is_done(run_dir, cell)) {
                let file = final_file(plan, cell);
                eprintln!(
                    "trained on all clips: {file}, for `cargo xtask predict --model-file {file} CLIP...`"
                );
            }
            summary::print_table(dir)?;
            eprintln!("{}; results in {}", engine::data_line(plan), repo.show(dir));
        }
        Ok(())
    }
}
