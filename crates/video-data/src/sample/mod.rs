//! The embedded default data: rendered samples in the layouts that can be read.
//!
//! A sample is for trying the program, never for a number about the real dataset: `sample.json` says
//! "rendered sample, not …" and every record made from it repeats that.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::datasets::hollywood2;
use crate::decode::find_worker;
use crate::digest;
use crate::error::{Error, Result};
use crate::kind::Split;
use crate::store::{lock, temporary, write_whole};

mod layouts;
mod random;
mod scene;

pub use crate::sample_info::{INFO, Layout, SampleInfo, VERSION};
pub use layouts::{SampleClip, plan};
pub(crate) use random::stream;
pub use scene::{Motion, Scene};

const RENDERING: &str = ".rendering.json";
const DIGESTS: &str = "digests.csv";

impl SampleClip {
    /// The clip, ready to be drawn.
    pub fn scene(&self, layout: Layout, seed: u64) -> Scene {
        let purpose = format!("sample/{}", layout.name());
        Scene::new(seed, &purpose, self.scene, &self.name, &self.motions, layout.size())
    }

    /// Time of frame `index` in seconds.
    pub fn time_s(layout: Layout, index: u32) -> f64 {
        let (num, den) = layout.fps();
        f64::from(index) * f64::from(den) / f64::from(num)
    }
}

/// Makes sure that `dir` holds the sample of this layout and seed, rendering what is missing.
///
/// `jobs` processes render (0: one per core); `worker` is the program, `None` for the one beside the running
/// program; `progress` gets clips done and clips in all. A sample that is complete is left alone.
///
/// # Errors
/// [`Error::Layout`] when `dir` holds something else, [`Error::Worker`], [`Error::Io`], [`Error::Busy`].
pub fn ensure(
    layout: Layout,
    dir: &Path,
    seed: u64,
    jobs: usize,
    worker: Option<&Path>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<SampleInfo> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let _lock = lock(&dir.join(".lock"), Duration::from_mins(10))?;
    let clips = plan(layout, seed);
    let old = fs::read(dir.join(INFO)).ok().and_then(|text| serde_json::from_slice::<SampleInfo>(&text).ok());
    if let Some(old) = old
        && (old.layout, old.seed, old.version) == (layout, seed, VERSION)
        && clips.iter().all(|clip| dir.join(&clip.name).is_file())
    {
        return Ok(old);
    }
    prepare(layout, dir, seed, &clips)?;
    let program = worker.map_or_else(find_worker, |path| Ok(path.to_path_buf()))?;
    let (libav, digests) = render(layout, dir, seed, jobs, &program, clips.len(), progress)?;
    let mut table = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and every record has three fields.
    let _ = table.write_record(["clip", "frames", "raw_frames_sha256"]);
    for clip in &clips {
        let missing =
            || Error::Worker { program: program.clone(), reason: format!("did not render {}", clip.name) };
        let digest = digests.get(&clip.name).ok_or_else(missing)?;
        let _ = table.write_record([&clip.name, &clip.frames.to_string(), digest]);
    }
    let table = table.into_inner().unwrap_or_default();
    write_whole(&dir.join(DIGESTS), &table)?;
    let info = SampleInfo {
        note: layout.note().into(),
        layout,
        seed,
        version: VERSION,
        libav,
        clips: clips.len(),
        digest: digest::of_bytes(&table),
    };
    let json = serde_json::to_vec_pretty(&info).map_err(|error| Error::Invalid(error.to_string()))?;
    write_whole(&dir.join(INFO), &json)?;
    let marker = dir.join(RENDERING);
    fs::remove_file(&marker).map_err(Error::io("remove", &marker))?;
    Ok(info)
}

/// Removes what another seed or version left and temporary files; creates the folders and lists.
fn prepare(layout: Layout, dir: &Path, seed: u64, clips: &[SampleClip]) -> Result<()> {
    let marker = dir.join(RENDERING);
    let identity = format!("{{\"layout\":{:?},\"seed\":{seed},\"version\":{VERSION}}}", layout.name());
    let goes_on = fs::read_to_string(&marker).is_ok_and(|text| text == identity);
    if !goes_on {
        let ours = marker.exists() || dir.join(INFO).exists();
        let entries: Vec<PathBuf> = fs::read_dir(dir)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(Error::io("list", dir))?;
        for path in entries.iter().filter(|path| !path.ends_with(".lock")) {
            if !ours {
                let reason = "it is not empty and holds no rendered sample".into();
                return Err(Error::Layout { dataset: layout.name(), dir: dir.to_path_buf(), reason });
            }
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.map_err(Error::io("remove", path))?;
        }
        write_whole(&marker, identity.as_bytes())?;
    }
    for clip in clips {
        let path = dir.join(&clip.name);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        // Left by a killed renderer; usually there is none.
        let _ = fs::remove_file(temporary(&path));
    }
    if layout == Layout::Hollywood2 { write_clip_sets(dir, clips) } else { Ok(()) }
}

fn write_clip_sets(dir: &Path, clips: &[SampleClip]) -> Result<()> {
    let folder = dir.join("ClipSets");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    for (label, class) in hollywood2::CLASSES.into_iter().enumerate() {
        for (split, word) in [(Split::Train, "train"), (Split::Test, "test")] {
            let mut text = String::new();
            for clip in clips.iter().filter(|clip| clip.split == Some(split)) {
                let name = clip.name.trim_start_matches("AVIClips/").trim_end_matches(".avi");
                let value = if clip.labels.contains(&label) { " 1" } else { "-1" };
                text.push_str(name);
                text.push_str("  ");
                text.push_str(value);
                text.push('\n');
            }
            write_whole(&folder.join(format!("{class}_{word}.txt")), text.as_bytes())?;
        }
    }
    Ok(())
}

/// Kills the renderers that are still running when an error ends the wait.
struct Renderers(Vec<Child>);

impl Drop for Renderers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Either call fails only if the process has already exited.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the renderers; returns libav's versions and the digest of each clip's raw frames.
fn render(
    layout: Layout,
    dir: &Path,
    seed: u64,
    jobs: usize,
    program: &Path,
    total: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(String, BTreeMap<String, String>)> {
    let fail = |reason: String| Error::Worker { program: program.to_path_buf(), reason };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if jobs == 0 { cores } else { jobs };
    let (send, lines) = mpsc::channel();
    let mut children = Renderers(Vec::new());
    for part in 0..jobs {
        let mut child = Command::new(program)
            .args(["render", "--layout", layout.name(), "--seed", &seed.to_string()])
            .args(["--part", &format!("{part}/{jobs}")])
            .arg("--out")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| fail(format!("cannot be started: {error}")))?;
        let stdout = child.stdout.take();
        children.0.push(child);
        let send = send.clone();
        std::thread::spawn(move || {
            for line in stdout
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines())
                .map_while(std::result::Result::ok)
            {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
    }
    drop(send);
    let (mut libav, mut digests) = (String::new(), BTreeMap::new());
    for line in lines {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["libav", versions] => versions.clone_into(&mut libav),
            ["clip", name, digest] => {
                digests.insert(name.to_owned(), digest.to_owned());
                progress(digests.len(), total);
            }
            _ => return Err(fail(format!("wrote {line:?}"))),
        }
    }
    for child in &mut children.0 {
        let status = child.wait().map_err(|error| fail(error.to_string()))?;
        if !status.success() {
            return Err(fail(format!("failed to render ({status})")));
        }
    }
    Ok((libav, digests))
}
