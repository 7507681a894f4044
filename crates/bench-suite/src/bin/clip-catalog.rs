//! The datasets on this machine: what `cargo xtask data` starts. No training engine is in it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bench_suite::catalog::{self, Entry, Reading};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "clip-catalog", about = "Lists, imports, checks, describes and removes datasets", version)]
struct Cli {
    #[command(subcommand)]
    verb: Data,
    /// Root of the repository.
    #[arg(long, global = true, default_value = ".")]
    root: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Data {
    /// Print a line per dataset.
    List,
    /// Put clips in place and decode them.
    Import {
        name: String,
        /// Folder or archive; without it the clips are in place already.
        path: Option<PathBuf>,
        /// Import an official dataset that is not all there.
        #[arg(long)]
        allow_partial: bool,
        /// List of clips with labels, groups and split, as `reproduce --split` takes it.
        #[arg(long)]
        split: Option<PathBuf>,
    },
    /// Compare the clips with their records; print a CSV line per clip.
    Verify {
        name: String,
        /// By SHA-256 of the files alone.
        #[arg(long)]
        fast: bool,
    },
    /// Write lengths, rates, sizes and a sheet of pictures per class; print where.
    Stats { name: String },
    /// Remove clips (or the link to them), stores and statistics.
    Remove {
        name: String,
        /// Do it; without this only say what would go.
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    bench_suite::progress::log(false, false);
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match run(&cli.root, &cli.verb, jobs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(catalog::exit_code(&error))
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer is what these verbs are for")]
fn run(root: &Path, verb: &Data, jobs: usize) -> Result<()> {
    let entry = |name: &str| Entry::load(root, name);
    match verb {
        Data::List => {
            let rows = catalog::list(root)?;
            let width = |of: fn(&catalog::Listed) -> &String| {
                rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
            };
            let (name, clips, store) =
                (width(|row| &row.name), width(|row| &row.clips), width(|row| &row.store));
            println!("{:name$}  {:clips$}  {:store$}  folder", "name", "clips", "frames");
            for row in &rows {
                println!("{:name$}  {:clips$}  {:store$}  {}", row.name, row.clips, row.store, row.folder);
            }
        }
        Data::Import { name, path, allow_partial, split } => {
            let reading = Reading { list: split.as_deref(), allow_partial: *allow_partial };
            catalog::import(&entry(name)?, path.as_deref(), reading, jobs)?;
        }
        Data::Verify { name, fast } => {
            let mut out = csv::Writer::from_writer(std::io::stdout().lock());
            let mut written = out.write_record(["clip", "verdict", "detail"]);
            let result = catalog::verify(&entry(name)?, *fast, jobs, &mut |checked| {
                if written.is_ok() {
                    written = out.write_record([&checked.clip, checked.verdict.name(), &checked.detail]);
                }
            });
            written.context("cannot write to standard output")?;
            out.flush().context("cannot write to standard output")?;
            return result;
        }
        Data::Stats { name } => println!("{}", catalog::statistics(&entry(name)?)?.display()),
        Data::Remove { name, yes } => {
            let paths = catalog::removable(&entry(name)?)?;
            for path in &paths {
                println!("{}", path.display());
            }
            match (paths.is_empty(), yes) {
                (true, _) => println!("{name} has no files here"),
                (false, true) => catalog::remove(&paths)?,
                (false, false) => eprintln!("nothing was removed: repeat with --yes to remove the above"),
            }
        }
    }
    Ok(())
}
