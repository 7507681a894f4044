//! A planned run in a temporary folder, and its cells as processes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bench_suite::events::{FILE, without_times};
use bench_suite::record::{CellRecord, Plan};
use bench_suite::spec::{FORMAT_NAMES, MODEL_NAMES, ON_FEATURES};
use rand::RngExt;
use tt_core::rng::stream;
use video_data::FrameSpec;
use video_data::datasets::{Kind, scan};
use video_data::import::store_dir;
use video_data::rate::Rate;
use video_data::store::{FORMAT, Row, StoreInfo, Writer};

/// Every model of frames, but of the formats, which share all code above the kernel, three.
pub(crate) fn models() -> Vec<&'static str> {
    let format = |name: &str| FORMAT_NAMES[1..].iter().any(|format| name.starts_with(&format!("{format}-")));
    MODEL_NAMES
        .iter()
        .copied()
        .filter(|name| *name != ON_FEATURES)
        .filter(|name| !format(name) || ["bt-lstm", "ht-gru", "cp-mlp"].contains(name))
        .collect()
}

/// Frames per second that clips are said to have, and are brought to.
const FPS: u32 = 24;

/// A run of experiment `small` that is planned and not computed.
pub(crate) struct Run {
    root: tempfile::TempDir,
    plan: Plan,
}

/// What a finished cell leaves, without times and memory.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    record: CellRecord,
    events: Vec<u8>,
    predictions: Vec<u8>,
    weights: Vec<u8>,
}

impl Outcome {
    /// What the model says of every test clip.
    pub(crate) fn predictions(&self) -> &[u8] {
        &self.predictions
    }

    /// Training loss of every epoch.
    pub(crate) fn losses(&self) -> Vec<f64> {
        self.record.curve.iter().map(|point| point.train_loss).collect()
    }
}

impl Run {
    /// 36 clips of noise in four classes, and `--set` for each of the settings.
    pub(crate) fn new(settings: &[&str]) -> Self {
        Self::of(["a", "b", "c", "d"], settings)
    }

    /// The same with other folders above the clips; those of a folder called `copy` have the same frames.
    pub(crate) fn of(folders: [&str; 4], settings: &[&str]) -> Self {
        let mut run = Self::unplanned(folders, (20, 16));
        run.make_plan(settings);
        run
    }

    /// Clips as those of [`Run::of`] with frames of a size, and no plan yet.
    pub(crate) fn unplanned(folders: [&str; 4], size: (u32, u32)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let experiments = root.path().join("experiments");
        fs::create_dir_all(experiments.join("recipes")).unwrap();
        fs::copy(source.join("recipes/scaled.toml"), experiments.join("recipes/scaled.toml")).unwrap();
        let text = fs::read_to_string(source.join("folder-sample.toml")).unwrap();
        let text = text.replace("render = \"folder\"", "render = \"\"").replace("folder-sample\"", "clips\"");
        fs::write(experiments.join("small.toml"), text).unwrap();
        make_store(&root.path().join("data"), folders, size);
        Self { root, plan: serde_json::from_str(EMPTY_PLAN).unwrap() }
    }

    /// Plans the run.
    pub(crate) fn make_plan(&mut self, settings: &[&str]) {
        let output = self.command_of("plan", settings).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        self.plan = serde_json::from_slice(&output.stdout).unwrap();
    }

    /// The repository of the run.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Files of rows in two classes, which are damaged as `files` say, and `--set` for each of the settings.
    pub(crate) fn rows(files: &dyn Fn(&Path), settings: &[&str]) -> Self {
        Self::of_files("rows", files, settings)
    }

    /// Files as `files` write them into the folder of an experiment, which is run as `small`.
    pub(crate) fn of_files(experiment: &str, files: &dyn Fn(&Path), settings: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let experiments = root.path().join("experiments");
        fs::create_dir_all(experiments.join("recipes")).unwrap();
        fs::copy(source.join("recipes/scaled.toml"), experiments.join("recipes/scaled.toml")).unwrap();
        let own = source.join(experiment).with_extension("toml");
        fs::copy(own, experiments.join("small.toml")).unwrap();
        files(&root.path().join("data").join(experiment));
        let mut run = Self { root, plan: serde_json::from_str(EMPTY_PLAN).unwrap() };
        let prepare = ["prepare", "--experiment", "small", "--root"];
        let output = engine().args(prepare).arg(run.root.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        run.make_plan(settings);
        run
    }

    /// The run's plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// `bench-suite plan` with settings.
    pub(crate) fn plan_command(&self, settings: &[&str]) -> Command {
        self.command_of("plan", settings)
    }

    /// A verb of the engine on the experiment with settings.
    pub(crate) fn command_of(&self, verb: &str, settings: &[&str]) -> Command {
        let mut command = engine();
        command.args([verb, "--experiment", "small", "--folds", "0", "--root"]).arg(self.root.path());
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// The protocol that the run's cells were planned with.
    pub(crate) fn protocol(&self) -> &str {
        &self.plan.cells[0].protocol
    }

    /// The run's classes.
    pub(crate) fn classes(&self) -> &[String] {
        &self.plan.classes
    }

    /// Names of the run's cells.
    pub(crate) fn cells(&self) -> Vec<String> {
        self.plan.cells.iter().map(bench_suite::record::PlannedCell::id).collect()
    }

    /// The run's folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("data/runs").join(&self.plan.run_digest)
    }

    /// A cell's folder.
    pub(crate) fn folder(&self, cell: &str) -> PathBuf {
        self.dir().join("cells").join(cell)
    }

    /// `bench-suite cell` with more arguments, split at blanks.
    pub(crate) fn command(&self, cell: &str, more: &str) -> Command {
        let mut command = engine();
        command.arg("cell").arg("--run-dir").arg(self.dir()).args(["--cell", cell]);
        command.args(more.split_whitespace());
        command
    }

    /// `bench-suite export` of a finished cell into a folder.
    pub(crate) fn export_command(&self, cell: &str, to: &Path) -> Command {
        let mut command = engine();
        command.arg("export").arg("--run-dir").arg(self.dir()).args(["--cell", cell]).arg("--to").arg(to);
        command
    }

    /// Runs a cell to its end.
    pub(crate) fn finish(&self, cell: &str, more: &str) -> String {
        let output = self.command(cell, more).output().unwrap();
        assert!(output.status.success(), "{cell}: {}", stderr(&output));
        stderr(&output)
    }

    /// Starts a cell that writes a checkpoint after every step, and waits until it has written one.
    pub(crate) fn start(&self, cell: &str) -> Child {
        let file = || fs::metadata(self.folder(cell).join("checkpoint.safetensors")).ok().map(|m| m.ino());
        let before = file();
        let mut child = self.command(cell, "--checkpoint-every 0 --quiet").spawn().unwrap();
        until("a checkpoint", || {
            assert!(child.try_wait().unwrap().is_none(), "{cell} ended before it was stopped");
            file().is_some_and(|now| Some(now) != before)
        });
        child
    }

    /// What the cell left. Nothing but its files may lie in its folder.
    pub(crate) fn outcome(&self, cell: &str) -> Outcome {
        let folder = self.folder(cell);
        let mut names: Vec<String> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["cell.json", FILE, "lock", "predictions.csv", "weights.safetensors"], "{cell}");
        outcome_in(&folder)
    }

    /// Forgets everything that was computed.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_dir_all(self.dir().join("cells"));
    }
}

/// What a finished cell left in a folder.
pub(crate) fn outcome_in(folder: &Path) -> Outcome {
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let mut record: CellRecord = serde_json::from_slice(&read("cell.json")).unwrap();
    (record.epoch_s, record.frames_wait, record.system) = (None, None, None);
    (record.origin, record.computed) = (None, None);
    record.peak_rss_bytes = 0;
    record.curve.iter_mut().for_each(|point| point.wall_s = 0.0);
    let events = without_times(&read(FILE));
    Outcome { record, events, predictions: read("predictions.csv"), weights: read("weights.safetensors") }
}

/// Sends a signal by name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// Waits for something that another process does; a minute is far more than it takes.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(1), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The engine with nothing to do yet.
pub(crate) fn engine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    command.stdin(Stdio::null()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

/// Clips that nobody will decode, and their frames in a store.
fn make_store(data: &Path, folders: [&str; 4], (width, height): (u32, u32)) {
    for class in folders {
        for clip in 0..9 {
            let folder = data.join(format!("clips/{class}/group{}", clip % 3));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("{clip}.avi")), [class, "is no video"].concat()).unwrap();
        }
    }
    let dataset = scan(Kind::Folder, &data.join("clips")).unwrap();
    let spec = FrameSpec::rgb(width, height, Rate::AtMost(FPS));
    let dir = store_dir(&dataset, &spec, data).unwrap();
    let mut writer = Writer::open(&dir, "noise", spec.frame_bytes()).unwrap();
    for clip in &dataset.clips {
        let mut rng = stream(0, &clip.name);
        let length = rng.random_range(10..=18);
        let shade = 40 * clip.labels[0] as u8;
        let frames: Vec<u8> =
            (0..length * spec.frame_bytes()).map(|_| shade + rng.random_range(0..120)).collect();
        writer.append(&frames).unwrap();
        let row = Row {
            clip: clip.name.clone(),
            labels: clip.labels.clone(),
            classes: dataset.classes[clip.labels[0]].clone(),
            group: clip.group.clone(),
            split: clip.split,
            fps: f64::from(FPS),
            frame_digest: if clip.name.contains("copy/") { "copy".into() } else { clip.name.clone() },
            ..Row::default()
        };
        writer.commit(row).unwrap();
    }
    let info = StoreInfo {
        format: FORMAT,
        name: dataset.name.clone(),
        spec,
        classes: dataset.classes.clone(),
        metric: dataset.metric,
        multi_label: false,
        differences: Vec::new(),
        sample: None,
        libav: String::new(),
        scale_flags: String::new(),
        derived: None,
        frames: 0,
        manifest_sha256: String::new(),
        data_digest: String::new(),
    };
    writer.finish(info, Vec::new()).unwrap();
}

/// What stands in for the plan until there is one.
const EMPTY_PLAN: &str = r#"{"experiment":"","data":"","data_kind":"folder","dataset":"","store":"","metric":"",
    "classes":[],"run_digest":"","data_digest":"","clips":0,"frames":0,"frame_bytes":0,"left_out":[],"cells":[],
    "config":""}"#;
