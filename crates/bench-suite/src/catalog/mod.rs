//! The datasets on this machine: what is there, importing, verifying, statistics, removing.
//!
//! A dataset is named by an experiment that reads it; its clips lie in `data/<folder>/`, which may be a link.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use video_data::archive::{self, Staging};
use video_data::datasets::{self, Dataset, Kind};
use video_data::import::{Options, ensure_store};
use video_data::store::{find_store, store_files};
use video_data::verify::{Checked, verify as verify_clips};

use crate::duplicates;
use crate::progress::Meter;

mod entry;
mod sheet;
mod statistics;

pub use entry::{Entry, Listed, list, size};
pub use statistics::statistics;

/// Clips differ from their records; each was reported.
#[derive(Debug)]
pub struct Differs(pub usize);

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} clips are not as recorded, see above", self.0)
    }
}

impl std::error::Error for Differs {}

/// 65 for unusable data, 75 to try again later, otherwise 1: a full disk is not the data's fault.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.downcast_ref() {
        None if error.is::<Differs>() => 65,
        None | Some(video_data::Error::Space { .. }) => 1,
        Some(video_data::Error::Busy { .. }) => 75,
        Some(video_data::Error::Io { source, .. })
            if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem) =>
        {
            1
        }
        Some(_) => 65,
    }
}

/// How clips to be imported are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading<'a> {
    /// The list that names them, with labels, groups and split.
    pub list: Option<&'a Path>,
    /// Accept an official or listed dataset that is incomplete.
    pub allow_partial: bool,
}

impl Reading<'_> {
    fn scan(&self, entry: &Entry, dir: &Path) -> Result<Dataset> {
        match self.list {
            None => Ok(datasets::scan(entry.kind, dir)?),
            Some(list) if entry.kind == Kind::Folder => Ok(datasets::scan_listed(dir, list)?),
            Some(_) => {
                bail!(
                    "--split goes with clips of loader folder: {} has labels and a split of its own",
                    entry.name
                )
            }
        }
    }
}

/// Puts a folder or an archive in the dataset's place, checks its layout and decodes it into the store.
///
/// A folder is linked, not copied. Without `path` the clips must be in place already. Clips decoded before an
/// interruption are kept.
///
/// # Errors
/// The layout is not the dataset's, or the dataset is incomplete without `allow_partial`; then nothing was
/// put in place.
pub fn import(entry: &Entry, path: Option<&Path>, reading: Reading<'_>, jobs: usize) -> Result<()> {
    let dataset = match path {
        None => checked(entry, &entry.folder, reading)?,
        Some(path) => {
            fs::create_dir_all(&entry.places.data)
                .with_context(|| format!("cannot create {}", entry.places.data.display()))?;
            let path = path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?;
            let in_place = entry.folder.canonicalize().is_ok_and(|there| there == path);
            if !in_place && entry.folder.symlink_metadata().is_ok() {
                bail!(
                    "{} is there already: `cargo xtask data remove {}` first",
                    entry.folder.display(),
                    entry.name
                );
            }
            if path.is_file() {
                unpack(entry, &path, reading)?;
            } else {
                checked(entry, &path, reading)?;
                if !in_place {
                    std::os::unix::fs::symlink(&path, &entry.folder)
                        .with_context(|| format!("cannot link {}", entry.folder.display()))?;
                }
            }
            reading.scan(entry, &entry.folder)?
        }
    };
    let started = Instant::now();
    let meter = Meter::new("decoding");
    let options = Options { jobs, ..Options::default() };
    let store = ensure_store(&dataset, &entry.frames, &entry.places.data, &options, &|p| {
        meter.show(p.done, p.total);
    })?;
    drop(meter);
    for row in store.left_out() {
        tracing::warn!("left out: {}: {}", row.clip, row.reason);
    }
    duplicates::name(&store);
    let frames = store.info().frames;
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(
        "{}: {} clips, {} left out, {} with a flag, {frames} frames, {} in {}, {seconds:.1} s",
        entry.name,
        store.clips().len(),
        store.left_out().len(),
        store.flagged().len(),
        size(frames * entry.frames.frame_bytes() as u64),
        store.dir().display()
    );
    Ok(())
}

/// Scans `dir` and says what differs from the official distribution.
fn checked(entry: &Entry, dir: &Path, reading: Reading<'_>) -> Result<Dataset> {
    let dataset = reading.scan(entry, dir)?;
    tracing::info!("{}: {} clips of {} classes", entry.name, dataset.clips.len(), dataset.classes.len());
    for remark in dataset.remarks() {
        tracing::warn!("{remark}");
    }
    if reading.allow_partial {
        for line in dataset.official.iter().flat_map(|official| &official.differences) {
            tracing::warn!("{line}");
        }
    } else {
        dataset
            .require_complete()
            .context("nothing was put in place (--allow-partial imports what is there)")?;
    }
    Ok(dataset)
}

fn unpack(entry: &Entry, path: &Path, reading: Reading<'_>) -> Result<()> {
    let staging = Staging::open(path, &entry.folder)?;
    let partial = staging.dir();
    let mut told = 0;
    let extracted = archive::extract(path, partial, &archive::Limits::default(), &mut |done| {
        if done.bytes >> 30 > told {
            told = done.bytes >> 30;
            tracing::info!("unpacked {} files, {}", done.files, size(done.bytes));
        }
    })?;
    for (name, reason) in &extracted.refused {
        tracing::warn!("not unpacked: {name}: {reason}");
    }
    tracing::info!(
        "unpacked {} files, {}; {} refused, {} of other kinds ignored",
        extracted.files,
        size(extracted.bytes),
        extracted.refused.len(),
        extracted.ignored
    );
    checked(entry, partial, reading)
        .with_context(|| format!("the unpacked files stay in {}", partial.display()))?;
    fs::rename(partial, &entry.folder).with_context(|| format!("cannot rename {}", partial.display()))
}

/// Compares every clip with its record, or decodes it where there is none.
///
/// # Errors
/// [`Differs`] counts the clips that are not fine.
pub fn verify(entry: &Entry, fast: bool, jobs: usize, tell: &mut dyn FnMut(&Checked)) -> Result<()> {
    let dataset = entry.scan()?;
    let store = find_store(&dataset, &entry.frames, &entry.places.data)?;
    match &store {
        Some(store) => tracing::info!("compared with the import in {}", store.dir().display()),
        None if fast => bail!("{} is not imported: --fast has nothing to compare with", entry.name),
        None => {
            tracing::info!("{} is not imported: decoding every clip, nothing to compare with", entry.name);
        }
    }
    let meter = Meter::new("verifying");
    let options = Options { jobs, ..Options::default() };
    let done = verify_clips(&dataset, &entry.frames, store.as_ref(), fast, &options, &|done, total| {
        meter.show(done, total);
    })?;
    drop(meter);
    done.iter().for_each(&mut *tell);
    let bad = done.iter().filter(|checked| !checked.verdict.is_fine()).count();
    if bad > 0 { Err(Differs(bad).into()) } else { Ok(()) }
}

/// What `remove` deletes: the clips (or the link to them), stores and statistics.
pub fn removable(entry: &Entry) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut name = match entry.kind {
        Kind::Folder => datasets::folder::folder_name(&entry.folder),
        other => other.name().to_owned(),
    };
    if entry.folder.symlink_metadata().is_ok() {
        paths.push(entry.folder.clone());
        if let Ok(dataset) = datasets::scan(entry.kind, &entry.folder) {
            name = dataset.name;
        }
    }
    paths.extend(store_files(&name, &entry.places.data)?);
    paths.extend(Staging::leftovers(&entry.folder)?);
    paths.push(statistics::folder(entry));
    paths.retain(|path| path.symlink_metadata().is_ok());
    Ok(paths)
}

/// Removes what [`removable`] lists.
pub fn remove(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let meta = path.symlink_metadata().with_context(|| format!("cannot read {}", path.display()))?;
        let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::Places;
    use video_data::FrameSpec;
    use video_data::rate::Rate;

    fn entry(data: &Path) -> Entry {
        Entry {
            name: "folder".into(),
            title: "clips".into(),
            kind: Kind::Folder,
            frames: FrameSpec::rgb(32, 24, Rate::Native),
            folder: data.join("folder"),
            places: Places { data: data.to_path_buf() },
        }
    }

    fn tar(path: &Path, names: &[&str]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(2000);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, &[1_u8; 2000][..]).unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        fs::write(path, &bytes).unwrap();
        bytes
    }

    #[test]
    fn an_import_is_bound_to_its_archive() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(&data).unwrap();
        let entry = entry(&data);
        let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
        let bytes = tar(&a, &["old/1.avi", "run/1.avi", "run/2.avi"]);
        // Cut within the last file, as a download that broke off; then the same name holds another archive.
        fs::write(&a, &bytes[..bytes.len() - 3000]).unwrap();
        let reading = Reading { allow_partial: true, ..Reading::default() };
        assert!(unpack(&entry, &a, reading).is_err());
        let left = Staging::leftovers(&entry.folder).unwrap();
        assert!(left.iter().any(|path| path.join("old/1.avi").is_file()), "{left:?}");
        assert_eq!(removable(&entry).unwrap(), left, "`data remove` takes away what is left");
        tar(&b, &["run/1.avi", "jump/1.avi"]);
        unpack(&entry, &b, reading).unwrap();
        let dataset = datasets::scan(Kind::Folder, &entry.folder).unwrap();
        assert_eq!(dataset.classes, ["jump", "run"]);
        assert_eq!(dataset.clips.len(), 2);
        assert!(Staging::leftovers(&entry.folder).unwrap().iter().all(|path| !path.is_dir()));
    }

    #[test]
    fn clips_to_import_are_read_by_a_list() {
        let dir = tempfile::tempdir().unwrap();
        let (clips, list) = (dir.path().join("folder"), dir.path().join("list.csv"));
        fs::create_dir_all(&clips).unwrap();
        fs::write(clips.join("1.avi"), "").unwrap();
        fs::write(&list, "clip,label,group\n1.avi,run,anna\n").unwrap();
        let reading = Reading { list: Some(&list), ..Reading::default() };
        let dataset = checked(&entry(dir.path()), &clips, reading).unwrap();
        assert_eq!((dataset.classes, dataset.clips[0].group.as_str()), (vec!["run".to_owned()], "anna"));
        let ucf11 = Entry { kind: Kind::Ucf11, name: "ucf11".into(), ..entry(dir.path()) };
        let error = checked(&ucf11, &clips, reading).unwrap_err().to_string();
        assert!(error.contains("ucf11 has labels and a split of its own"), "{error}");
    }

    #[test]
    fn the_same_archive_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, folder) = (dir.path().join("a.tar"), dir.path().join("clips"));
        tar(&archive, &["run/1.avi"]);
        let first = Staging::open(&archive, &folder).unwrap().dir().to_path_buf();
        fs::create_dir_all(first.join("run")).unwrap();
        let again = Staging::open(&archive, &folder).unwrap();
        assert_eq!(again.dir(), first);
        assert!(first.join("run").is_dir());
        // Another process waits, and does not remove what is being unpacked.
        assert!(matches!(Staging::open(&archive, &folder), Err(video_data::Error::Busy { .. })));
    }
}
