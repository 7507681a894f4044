//! What can be refused before anything is built: experiment, flags, device, folders.

use std::fs;

use anyhow::{Context, Result, bail};
use bench_suite::record::FINAL;
use bench_suite::spec::{Overrides, Spec, stems};

use crate::cli::selection::Selection;
use crate::machine::devices;
use crate::repo::Repo;

/// The experiments for clips, rows and sound of one's own, and what stands before the folder's name: sound is that of clips, which
/// have results of their own.
const ANY_FOLDER: [(&str, &str); 3] = [("folder", ""), ("rows", ""), ("sound", "sound-")];

/// An experiment that will run.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Its name: where a rendered sample takes the place of clips, the sample's.
    pub(crate) name: String,
    /// Which data it will use, in one line.
    pub(crate) data: String,
}

/// Loads and checks an experiment with the command line's changes, and decides which data it will use. The sample
/// takes the place of clips only where it is asked for or nothing is; a folder that is asked for and cannot be read or
/// holds nothing is refused.
pub(crate) fn check(repo: &Repo, name: &str, selection: &Selection) -> Result<Chosen> {
    let overrides = selection.overrides();
    let spec = Spec::load(repo.root(), name, &overrides)?;
    let own = format!("data/{}/", spec.data.folder);
    let chosen = |name: &str, data: String| Chosen { name: name.to_owned(), data: format!("data: {data}") };
    let sample = |why: &str| -> Result<Chosen> {
        let sample = &spec.data.fallback;
        Spec::load(repo.root(), sample, &overrides)?;
        Ok(chosen(sample, format!("rendered sample, not {}{why}", spec.title)))
    };
    if let Some(list) = selection.split.as_deref().filter(|list| !list.exists()) {
        bail!("--split {}: no such file", list.display());
    }
    if !spec.data.render.is_empty() {
        if selection.data.is_some() {
            bail!("experiment {name:?} renders its own clips: --data does not apply");
        }
        return Ok(chosen(name, format!("{}, in {own}", spec.title)));
    }
    if selection.sample {
        if spec.data.fallback.is_empty() {
            bail!("{name} has no rendered sample: --sample does not apply");
        }
        return sample("");
    }
    if let Some(dir) = &selection.data {
        let mut entries =
            fs::read_dir(dir).with_context(|| format!("--data {} cannot be read", dir.display()))?;
        if entries.next().is_none() {
            bail!("--data {} is empty: expected the clips of {name}, or their parent folder", dir.display());
        }
        return Ok(chosen(name, format!("clips in {}", dir.display())));
    }
    let place = repo.path("data").join(&spec.data.folder);
    if place.is_dir() {
        return Ok(chosen(name, format!("clips in {own}")));
    }
    if place.symlink_metadata().is_ok() {
        bail!("{own} is a broken link or not a folder: repair or remove it");
    }
    let asked_for = if selection.allow_partial {
        Some("--allow-partial")
    } else if selection.split.is_some() {
        Some("--split")
    } else if spec.data.folder != Spec::load(repo.root(), name, &Overrides::default())?.data.folder {
        Some("--set data.folder")
    } else {
        None
    };
    match asked_for {
        Some(flag) => bail!(
            "{own} does not exist, and {flag} needs the clips of {name}: put them there, or give --data DIR"
        ),
        None if spec.data.fallback.is_empty() => {
            bail!("{name} needs clips: give --data DIR, or put them into {own}")
        }
        None => sample(&format!(" (no --data DIR, and no {own})")),
    }
}

/// Folders under `results/` that are no experiment's.
const TAKEN: [&str; 7] = ["ablation", "bench", "compression", "devices", "models", "rates", "tuning"];

/// The selection with the name of its results: `--name`, and for any folder of clips or rows the folder's own, so that two such
/// datasets have two names.
///
/// # Errors
/// A name that is no name of a folder, or that of another experiment.
pub(crate) fn named(repo: &Repo, experiment: &str, selection: Selection) -> Result<Selection> {
    let known = stems(&repo.path("experiments"))?;
    let is_taken =
        |name: &str| TAKEN.contains(&name) || (name != experiment && known.iter().any(|k| k == name));
    let name = match (&selection.name, &selection.data) {
        (Some(name), _) => {
            let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(fine) {
                bail!("--name {name:?}: expected letters, digits, '-', '_' and '.', not first");
            }
            if is_taken(name) {
                bail!("--name {name} is taken: results/{name}/ is for another experiment");
            }
            name.clone()
        }
        (None, Some(dir)) => {
            let Some((_, before)) = ANY_FOLDER.iter().find(|(own, _)| *own == experiment) else {
                return Ok(selection);
            };
            let whole =
                fs::canonicalize(dir).with_context(|| format!("--data {} cannot be read", dir.display()))?;
            let name = whole.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            let words =
                name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            match words.collect::<Vec<_>>().join("-") {
                name if name.is_empty() => return Ok(selection),
                name if before.is_empty() && is_taken(&name) => format!("{experiment}-{name}"),
                name => format!("{before}{name}"),
            }
        }
        _ => return Ok(selection),
    };
    Ok(Selection { name: Some(name), ..selection })
}

/// The selection with a device in the place of `auto`, and what `--final` stands for in its.
///
/// # Errors
/// A precision that the device does not have.
pub(crate) fn on_this_machine(repo: &Repo, selection: &Selection) -> Result<Selection> {
    let device = devices::resolve(repo, selection.device);
    selection.precision.check(device)?;
    let mut resolved = Selection { device, ..selection.clone() };
    if selection.final_model {
        resolved.protocol = Some(FINAL.to_owned());
        if selection.models.is_empty() {
            resolved.models.push("tt-gru".to_owned());
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    #[test]
    fn results_of_two_folders_have_two_names() {
        let (repo, dir) = (Repo::find().unwrap(), tempfile::tempdir().unwrap());
        let name = |experiment: &str, folder: &str, name: Option<&str>| {
            let data = dir.path().join(folder);
            fs::create_dir_all(&data).unwrap();
            let (data, name) = (Some(data), name.map(str::to_owned));
            let named = named(&repo, experiment, Selection { data, name, ..Selection::default() });
            named.map(|selection| selection.name.unwrap_or_default()).map_err(|error| error.to_string())
        };
        let of = |folder: &str| name("folder", folder, None).unwrap();
        assert_eq!((of("My clips (2)"), of("b")), ("my-clips-2".to_owned(), "b".to_owned()));
        assert_eq!((of("ucf11"), of("devices")), ("folder-ucf11".to_owned(), "folder-devices".to_owned()));
        assert_eq!(name("rows", "ucf11", None).unwrap(), "rows-ucf11");
        assert_eq!(name("sound", "b", None).unwrap(), "sound-b");
        assert_eq!(name("ut-interaction", "b", None).unwrap(), "");
        assert_eq!(name("folder", "b", Some("mine")).unwrap(), "mine");
        for (bad, words) in
            [("../x", "expected letters"), ("ucf11", "for another experiment"), ("", "expected")]
        {
            assert!(name("folder", "b", Some(bad)).unwrap_err().contains(words), "{bad}");
        }
    }

    #[test]
    fn final_is_a_protocol_of_one_model() {
        let flags = |line: &str| {
            let Verb::Reproduce(args) = Cli::parse_from(line.split_whitespace()).verb else { panic!("verb") };
            let selection = on_this_machine(&Repo::at("here".as_ref()), &args.selection).unwrap();
            (selection.protocol.unwrap_or_default(), selection.models.join(","))
        };
        assert_eq!(flags("xtask reproduce folder --final"), ("final".into(), "tt-gru".into()));
        assert_eq!(flags("xtask reproduce folder --final --models lstm"), ("final".into(), "lstm".into()));
        assert_eq!(flags("xtask reproduce folder"), (String::new(), String::new()));
        assert!(
            Cli::try_parse_from(["xtask", "reproduce", "folder", "--final", "--protocol", "clips"]).is_err()
        );
    }
}
