//! Extracts clips from an archive without trusting it.
//!
//! Entries are written here, one at a time: regular files with the extension of a clip or of its lists, below one
//! folder, within caps that count what arrives and not what the archive declares. Nothing else is ever created:
//! no link, no device, no name that leads outside.
//!
//! `.tar` and `.tar.gz` are read by `tar`, `.zip` by `zip`; `.rar` and `.7z` by the program `bsdtar` (libarchive),
//! which turns them into a tar stream.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::MultiGzDecoder;

use crate::datasets::is_video;
use crate::error::{Error, Result};
use crate::name;
use crate::store::{free_bytes, temporary};

mod metered;
mod staging;

use metered::{Meter, Metered};
pub use staging::Staging;

/// Extensions of the other files that a loader reads.
const LISTS: [&str; 2] = ["txt", "sht"];
/// What `bsdtar` says when it gives up on an archive: an error, whatever came out before.
const ENDS: [&str; 2] = ["Error reading archive", "Error opening archive"];
/// A refused name is shown up to this many bytes.
const SHOWN_BYTES: usize = 400;
/// Disk space left free, in bytes.
const SPARE_BYTES: u64 = 256 << 20;
/// Free space is checked whenever this many bytes were written.
const LOOK_BYTES: u64 = 64 << 20;

/// What one archive may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// Several times the size of Hollywood2, the largest of the three datasets.
    fn default() -> Self {
        Self { entries: 200_000, file_bytes: 4 << 30, total_bytes: 128 << 30 }
    }
}

/// What came out of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Files written now or by an interrupted extraction.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that were refused: escaped name, reason.
    pub refused: Vec<(String, String)>,
    /// Files of kinds that no loader reads.
    pub ignored: u64,
}

/// Writes the clips and lists of `archive` below `out`. An interrupted extraction continues where it stopped:
/// a file of the right name and size counts as extracted, so `out` must hold nothing of another archive
/// ([`Staging`] ensures that).
///
/// # Errors
/// [`Error::Corrupt`] for what is no archive, ends early or breaks a cap; [`Error::Space`], [`Error::Io`];
/// [`Error::Worker`] where `bsdtar` is needed and missing. Entries that are merely refused are no error: see
/// [`Extracted::refused`].
pub fn extract(
    archive: &Path,
    out: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(&Extracted),
) -> Result<Extracted> {
    let format = Format::of(archive).ok_or_else(|| {
        Error::corrupt(archive, "unknown type of archive: expected .rar, .7z, .zip, .tar, .tar.gz or .tgz")
    })?;
    fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let mut sink = Sink {
        archive,
        out,
        limits,
        progress,
        seen: HashSet::new(),
        entries: 0,
        looked_at: 0,
        done: Extracted::default(),
    };
    match format {
        Format::Tar => sink.tar_file(open(archive)?)?,
        Format::TarGz => sink.tar_file(MultiGzDecoder::new(open(archive)?))?,
        Format::Zip => sink.zip()?,
        Format::Libarchive => sink.libarchive()?,
    }
    if sink.entries == 0 {
        return Err(sink.bad("it holds no entry: empty or damaged"));
    }
    Ok(sink.done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Tar,
    TarGz,
    Zip,
    Libarchive,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let formats = [
            (".tar", Self::Tar),
            (".tar.gz", Self::TarGz),
            (".tgz", Self::TarGz),
            (".zip", Self::Zip),
            (".rar", Self::Libarchive),
            (".7z", Self::Libarchive),
        ];
        formats.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(1 << 20, File::open(path).map_err(Error::io("open", path))?))
}

struct Sink<'a> {
    archive: &'a Path,
    out: &'a Path,
    limits: &'a Limits,
    progress: &'a mut dyn FnMut(&Extracted),
    /// Paths written in this run, to refuse a second entry of the same name.
    seen: HashSet<PathBuf>,
    entries: u64,
    looked_at: u64,
    done: Extracted,
}

impl Sink<'_> {
    fn bad(&self, reason: impl std::fmt::Display) -> Error {
        Error::corrupt(self.archive, format!("cannot be unpacked: {reason}"))
    }

    /// Extracts the entries of a tar stream; returns whether the stream ended with the end mark.
    fn tar(&mut self, reader: impl Read) -> Result<bool> {
        let meter = Meter::default();
        let mut archive = tar::Archive::new(Metered { inner: reader, meter: meter.clone() });
        meter.expect_headers(0);
        let entries = archive.entries().map_err(|error| self.bad(error))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| self.bad(error))?;
            let name = OsString::from_vec(entry.path_bytes().into_owned());
            let kind = match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => EntryKind::File,
                tar::EntryType::Directory => EntryKind::Folder,
                tar::EntryType::Symlink | tar::EntryType::Link => EntryKind::Other("a link"),
                _ => EntryKind::Other("not a regular file"),
            };
            let size = entry.size();
            let begun = meter.read();
            meter.expect_content();
            self.take(&name, kind, size, &mut entry)?;
            // Skip what was not read, up to the next full block.
            meter.expect_headers(size.saturating_sub(meter.read() - begun).saturating_add(512));
        }
        Ok(meter.is_whole())
    }

    /// Extracts the entries of a tar file. One cut between two entries differs from a whole one only by the
    /// missing end mark.
    fn tar_file(&mut self, reader: impl Read) -> Result<()> {
        if !self.tar(reader)? {
            tracing::warn!("{} has no end mark: it may be cut off", self.archive.display());
        }
        Ok(())
    }

    fn zip(&mut self) -> Result<()> {
        let mut archive = zip::ZipArchive::new(open(self.archive)?).map_err(|error| self.bad(error))?;
        // Some Windows programs separate folders this way, against the format.
        let any = |letter: char| archive.file_names().flatten().any(|name| name.contains(letter));
        let backslashes = any('\\') && !any('/');
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).map_err(|error| self.bad(error))?;
            let mut name = entry.name_raw().to_vec();
            if backslashes {
                name.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
            }
            let kind = if entry.is_dir() || name.ends_with(b"/") {
                EntryKind::Folder
            } else if entry.is_symlink() {
                EntryKind::Other("a link")
            } else {
                EntryKind::File
            };
            let size = entry.size();
            self.take(&OsString::from_vec(name), kind, size, &mut entry)?;
        }
        Ok(())
    }

    /// Has libarchive's `bsdtar` convert the archive to a tar stream.
    fn libarchive(&mut self) -> Result<()> {
        let missing = |error: io::Error| Error::Worker {
            program: "bsdtar".into(),
            reason: format!(
                "cannot be started ({error}): it reads .rar and .7z; install libarchive-tools (Debian, Ubuntu), \
                 bsdtar (Fedora), libarchive (Arch, Homebrew), or unpack the archive yourself and import the folder"
            ),
        };
        let mut source = OsString::from("@");
        source.push(std::path::absolute(self.archive).map_err(Error::io("find", self.archive))?);
        let mut child = Command::new("bsdtar")
            // In other locales it stops at the first name that is not ASCII.
            .env("LC_ALL", if cfg!(target_os = "macos") { "en_US.UTF-8" } else { "C.UTF-8" })
            .args(["-c", "-f", "-", "--format=pax"])
            .arg(source)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(missing)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let said = std::thread::spawn(move || stderr.map(first_words).unwrap_or_default());
        let read = match stdout {
            Some(stdout) => {
                let mut stdout = BufReader::with_capacity(1 << 20, stdout);
                let read = self.tar(&mut stdout);
                // Read to the end: bsdtar reports an error if the reader goes away early.
                read.and_then(|whole| match io::copy(&mut stdout, &mut io::sink()) {
                    Ok(_) => Ok(whole),
                    Err(error) => Err(self.bad(error)),
                })
            }
            None => Err(self.bad("bsdtar has no output")),
        };
        if read.is_err() {
            // It may be blocked on a pipe that nobody reads any more.
            let _ = child.kill();
        }
        let status = child.wait().map_err(Error::io("wait for bsdtar on", self.archive))?;
        let said = said.join().unwrap_or_default();
        let whole = read?;
        let ended = said.lines().find(|line| ENDS.iter().any(|end| line.contains(end)));
        if !status.success() && (!whole || ended.is_some()) {
            return Err(self.bad(ended.or(said.lines().next()).unwrap_or("bsdtar failed")));
        }
        // Other messages concern single entries: the archive was read to its end.
        for line in said.lines().take(10) {
            tracing::warn!("{}: {line}", self.archive.display());
        }
        Ok(())
    }

    fn take(&mut self, name: &OsStr, kind: EntryKind, size: u64, content: &mut dyn Read) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(self.bad(format!("more than {} entries", self.limits.entries)));
        }
        let refused = match (inside(name), kind) {
            (_, EntryKind::Folder) => return Ok(()),
            (Err(reason), _) => reason,
            (_, EntryKind::Other(what)) => what.to_owned(),
            (Ok(path), EntryKind::File) => {
                if !is_wanted(&path) {
                    self.done.ignored += 1;
                    return Ok(());
                }
                match self.file(&path, size, content)? {
                    Some(reason) => reason,
                    None => return Ok(()),
                }
            }
        };
        let shown = &name.as_bytes()[..name.len().min(SHOWN_BYTES)];
        self.done.refused.push((name::escape(Path::new(OsStr::from_bytes(shown))), refused));
        Ok(())
    }

    /// Writes one file, or returns why it is refused.
    fn file(&mut self, path: &Path, size: u64, content: &mut dyn Read) -> Result<Option<String>> {
        if size > self.limits.file_bytes {
            return Ok(Some(format!("declares {size} bytes, over the cap of {}", self.limits.file_bytes)));
        }
        if !self.seen.insert(path.to_path_buf()) {
            return Ok(Some("a second entry of that name".into()));
        }
        let target = self.out.join(path);
        let folder = target.parent().unwrap_or(self.out);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        if fs::metadata(&target).is_ok_and(|meta| meta.is_file() && meta.len() == size) {
            return self.count(size).map(|()| None);
        }
        let partial = temporary(&target);
        let mut file = File::create(&partial).map_err(Error::io("create", &partial))?;
        let mut buffer = vec![0; 1 << 18];
        let mut written = 0;
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.bad(format!("{}: {error}", name::escape(path)))),
            };
            written += n as u64;
            if written > self.limits.file_bytes {
                drop(file);
                fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
                return Ok(Some(format!("unpacks to more than {} bytes", self.limits.file_bytes)));
            }
            self.look(written)?;
            file.write_all(&buffer[..n]).map_err(Error::io("write", &partial))?;
        }
        if written < size {
            return Err(self.bad(format!("{} ends after {written} of {size} bytes", name::escape(path))));
        }
        fs::rename(&partial, &target).map_err(Error::io("rename", &partial))?;
        self.count(written)?;
        Ok(None)
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.done.files += 1;
        self.done.bytes += bytes;
        (self.progress)(&self.done);
        self.look(0)
    }

    /// Keeps the archive's total below its cap and the disk from filling up.
    fn look(&mut self, pending: u64) -> Result<()> {
        let total = self.done.bytes + pending;
        if total > self.limits.total_bytes {
            return Err(self.bad(format!("it unpacks to more than {} bytes", self.limits.total_bytes)));
        }
        if total >= self.looked_at {
            self.looked_at = total + LOOK_BYTES;
            let free_bytes = free_bytes(self.out)?;
            if free_bytes < SPARE_BYTES {
                let (path, need_bytes) = (self.out.to_path_buf(), SPARE_BYTES);
                return Err(Error::Space { path, need_bytes, free_bytes });
            }
        }
        Ok(())
    }
}

/// The first 4 kB of a program's messages. The rest is drained, so that the program never blocks on it.
fn first_words(mut stderr: impl Read) -> String {
    let mut words = Vec::new();
    // A message that cannot be read is shown as far as it was read.
    let _ = stderr.by_ref().take(4096).read_to_end(&mut words);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&words).into_owned()
}

#[derive(Debug, Clone, Copy)]
enum EntryKind {
    File,
    Folder,
    Other(&'static str),
}

fn is_wanted(path: &Path) -> bool {
    let list = |extension: &OsStr| LISTS.iter().any(|known| extension.eq_ignore_ascii_case(known));
    let name = path.file_name().unwrap_or_default();
    !name.as_bytes().starts_with(b".") && (is_video(name) || path.extension().is_some_and(list))
}

/// The entry's path, when it stays below the folder it is unpacked to.
fn inside(name: &OsStr) -> std::result::Result<PathBuf, String> {
    if name.as_bytes().contains(&0) {
        return Err("its name holds a NUL byte".into());
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) if part.len() > 250 => return Err("its name is too long".into()),
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("its name leads outside through ..".into()),
            Component::RootDir | Component::Prefix(_) => return Err("its name is an absolute path".into()),
        }
    }
    if path.as_os_str().is_empty() { Err("it has no name".into()) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_name_leads_outside(bytes in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(b'\\'), any::<u8>()], 0..40)) {
            if let Ok(path) = inside(&OsString::from_vec(bytes)) {
                prop_assert!(path.is_relative());
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }

    #[test]
    fn only_clips_and_their_lists_are_wanted() {
        for (name, wanted) in [
            ("a/b.MPG", true),
            ("ClipSets/Run_test.txt", true),
            ("x.sh", false),
            ("a/.b.avi", false),
            ("avi", false),
        ] {
            assert_eq!(is_wanted(Path::new(name)), wanted, "{name}");
        }
    }
}
