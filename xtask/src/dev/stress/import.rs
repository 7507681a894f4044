//! `cargo xtask stress import`: an import killed at random instants must end with the same store, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_suite::files;
use bench_suite::stats::Draws;

use crate::dev::stress::{Root, finish, remove};
use crate::repo::Repo;
use crate::run::interrupt::Interrupt;
use crate::text;

/// Its clips are 440 and take some seconds to decode.
const EXPERIMENT: &str = "ucf11-sample";
/// A multiple of the undisturbed time within which kills fall: some imports are to end.
const SPAN: f64 = 0.9;

/// Kills imports until `kills` are done, and compares every finished store with the first.
pub(super) fn import(repo: &Repo, kills: usize, seed: u64) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let base = repo.path("data/stress-import");
    remove(&base)?;
    let root = Root::new(repo, base.clone())?;
    let stores = root.path.join("data/stores");
    let start = |root: &Root| -> Result<Child> {
        let mut engine = repo.binary("bench-suite");
        engine.arg("--root").arg(&root.path).args(["--quiet", "prepare", "--experiment", EXPERIMENT]);
        engine.stdin(Stdio::null()).spawn().context("failed to start bench-suite prepare")
    };
    let whole = |root: &Root| -> Result<()> {
        let status = interrupt.wait(&mut start(root)?)?;
        interrupt.check()?;
        if status.success() { Ok(()) } else { bail!("bench-suite prepare failed ({status})") }
    };
    whole(&root)?;
    remove(&stores)?;
    let started = Instant::now();
    whole(&root)?;
    let undisturbed = started.elapsed();
    let reference = base.join("reference");
    fs::rename(&stores, &reference).with_context(|| format!("{} cannot be renamed", stores.display()))?;
    eprintln!("an undisturbed import takes {}", text::seconds(undisturbed.as_secs_f64()));
    let mut draws = Draws::new(&format!("stress/import/seed{seed}"));
    let (mut done, mut pending, mut survived, mut mismatches) = (0, 0, 0, 0);
    while done < kills || pending > 0 {
        interrupt.check()?;
        let mut child = start(&root)?;
        if done < kills {
            let share = draws.below(1 << 16) as f64 / f64::from(1 << 16);
            thread::sleep(Duration::from_secs_f64(undisturbed.as_secs_f64() * SPAN * share));
            if child.try_wait()?.is_none() {
                child.kill()?;
                child.wait()?;
                done += 1;
                pending += 1;
                // Every other import is killed more than once.
                if draws.below(2) == 0 {
                    continue;
                }
                child = start(&root)?;
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("bench-suite prepare failed ({status}) after a kill");
        }
        if same(&reference, &stores)? {
            survived += pending;
        } else {
            eprintln!("MISMATCH after {done} kills");
            mismatches += 1;
        }
        pending = 0;
        if mismatches == 0 {
            remove(&stores)?;
        }
        eprintln!("{done} of {kills} kills");
    }
    finish(repo, &base, &format!("{done} kills, {survived} survived, {mismatches} mismatches"), mismatches)
}

/// Whether two folders of stores hold the same files with the same bytes, locks left out.
fn same(a: &Path, b: &Path) -> Result<bool> {
    let (names, others) = (files(a)?, files(b)?);
    if names != others {
        return Ok(false);
    }
    for name in names {
        if !same_bytes(&a.join(&name), &b.join(&name))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    let list = |dir: &Path| fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()));
    for store in list(dir)? {
        let store = store?.path();
        if store.is_dir() {
            for file in list(&store)? {
                names.push(file?.path().strip_prefix(dir)?.to_path_buf());
            }
        }
    }
    names.sort();
    Ok(names)
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    let digest =
        |path: &Path| files::digest(path).with_context(|| format!("{} cannot be read", path.display()));
    Ok(digest(a)? == digest(b)?)
}
