//! A repository in a temporary folder whose cargo does nothing and whose engine is a shell script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bench_suite::record::{CellRecord, CurvePoint, DataKind, LeftOut, ParamsRow, Plan, PlannedCell};

/// The engine: prints what the test wrote beforehand, and leaves a cell's files where they belong.
const ENGINE: &str = r#"#!/bin/sh
echo "$@" >> "$FAKE/calls"
case $1 in
  prepare) ;;
  plan) case "$*" in *--dry-run) ;; *) run=data/runs/$(cat "$FAKE/digest"); mkdir -p "$run"; cp "$FAKE/plan.json" "$run";; esac; cat "$FAKE/plan.json" ;;
  params) cat "$FAKE/params.json" ;;
  cell)
    test -e "$FAKE/slow" && { sleep 60 & trap 'kill $!; exit 130' INT TERM; touch "$FAKE/started"; wait; exit 1; }
    test -e "$FAKE/locked" && exit 75
    test -e "$FAKE/fail" && { case $5 in *f1*) echo "out of luck" >&2; exit 1;; esac; }
    echo "epoch 1/1 loss 2.0" >&2
    mkdir -p "$3/cells/$5"
    cp "$FAKE/cells/$5/"* "$3/cells/$5/" ;;
esac
"#;

/// A temporary repository.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    /// With the real experiments, an empty `results/`, and an engine for `plan`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["xtask", "bin", "fake", "target/release"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        copy(&repo().join("experiments"), &root.join("experiments"));
        script(&root.join("bin/cargo"), "#!/bin/sh\necho \"$@\" >> \"$FAKE/cargo\"\n");
        script(&root.join("bin/pkg-config"), "#!/bin/sh\nexit 0\n");
        script(&root.join("target/release/bench-suite"), ENGINE);
        script(
            &root.join("target/release/clip-catalog"),
            "#!/bin/sh\necho clip-catalog \"$@\" >> \"$FAKE/calls\"\n",
        );
        let fake = Self { dir };
        let plan = plan();
        fake.write("fake/plan.json", &serde_json::to_vec(&plan).unwrap());
        fake.write("fake/digest", plan.run_digest.as_bytes());
        fake.write("fake/params.json", &serde_json::to_vec(&params()).unwrap());
        for planned in &plan.cells {
            let folder = format!("fake/cells/{}", planned.id());
            fs::create_dir_all(fake.path(&folder)).unwrap();
            fake.write(&format!("{folder}/cell.json"), &serde_json::to_vec(&cell(planned)).unwrap());
            let predictions = "clip,fold,label,predicted,probabilities\n\"a, \"\"b\"\".mpg\",0,x,x,0.75;0.25\nc.mpg,0,y,x,0.5;0.5\n";
            fake.write(&format!("{folder}/predictions.csv"), predictions.as_bytes());
        }
        fake
    }

    /// Changes what the engine plans from now on.
    pub(crate) fn replan(&self, change: impl FnOnce(&mut Plan)) {
        let mut plan: Plan = serde_json::from_str(&self.read("fake/plan.json")).unwrap();
        change(&mut plan);
        self.write("fake/plan.json", &serde_json::to_vec(&plan).unwrap());
        self.write("fake/digest", plan.run_digest.as_bytes());
    }

    /// Changes what a cell's record says when the engine computes it the next time.
    pub(crate) fn recompute(&self, id: &str, change: impl FnOnce(&mut CellRecord)) {
        let path = format!("fake/cells/{id}/cell.json");
        let mut cell: CellRecord = serde_json::from_str(&self.read(&path)).unwrap();
        change(&mut cell);
        self.write(&path, &serde_json::to_vec(&cell).unwrap());
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes a file below the root.
    pub(crate) fn write(&self, relative: &str, bytes: &[u8]) {
        fs::write(self.path(relative), bytes).unwrap();
    }

    /// Text of a file below the root.
    pub(crate) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    /// A record of an experiment's only run.
    pub(crate) fn record(&self, experiment: &str, file: &str) -> String {
        let runs = fs::read_dir(self.path("results").join(experiment).join("runs")).unwrap();
        let [run] = &runs.map(|run| run.unwrap().path()).collect::<Vec<_>>()[..] else { panic!("one run") };
        fs::read_to_string(run.join(file)).unwrap()
    }

    /// Runs `xtask` with the arguments, split at spaces.
    pub(crate) fn xtask(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// `xtask` with the arguments, split at spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let path = std::env::join_paths(
            std::iter::once(self.path("bin"))
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(line.split_whitespace())
            .env("CARGO_MANIFEST_DIR", self.path("xtask"))
            .env("CARGO", self.path("bin/cargo"))
            .env("FAKE", self.path("fake"))
            .env("PATH", path.unwrap())
            .env("LIBCLANG_PATH", self.path("bin"))
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(self.dir.path());
        command
    }

    /// Puts the engines that cargo built into the place of the shell script; whether they are there.
    pub(crate) fn use_real_engine(&self) -> bool {
        let target = Path::new(env!("CARGO_BIN_EXE_xtask")).ancestors().nth(2).unwrap().join("release");
        let programs = ["bench-suite", "video-worker"];
        if !programs.iter().all(|name| target.join(name).is_file()) {
            return false;
        }
        for name in programs {
            fs::copy(target.join(name), self.path("target/release").join(name)).unwrap();
        }
        true
    }
}

/// Standard error of a command as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The real repository.
pub(crate) fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn plan() -> Plan {
    let cells = ["gru", "tt-gru"].iter().flat_map(|model| {
        (0..2).map(|fold| PlannedCell {
            model: (*model).into(),
            protocol: "clips".into(),
            recipe: "scaled".into(),
            fold,
            seed: 0,
            epochs: 1,
            train_clips: 2,
            test_clips: 2,
            train_frames: 20,
            params_input: 3232,
            params_total: 203_435,
            macs_per_frame: 2_000_000,
            expected_rss_bytes: 100_000_000,
            expected_s: if *model == "gru" { 0.2 } else { 0.1 },
        })
    });
    Plan {
        experiment: "ucf11-sample".into(),
        data: "four clips".into(),
        store: "s".into(),
        data_kind: DataKind::Sample,
        dataset: "ucf11".into(),
        metric: "accuracy".into(),
        classes: vec!["x".into(), "y".into()],
        run_digest: "0123abcd".into(),
        data_digest: "d".into(),
        clips: 4,
        frames: 40,
        frame_bytes: 57_600,
        left_out: vec![LeftOut { clip: "bad\n.mpg".into(), reason: "no stream".into() }],
        with_errors: 0,
        copies: Vec::new(),
        cells: cells.collect(),
        config: "name = \"ucf11-sample\"\nrecipe = \"scaled\"\n".into(),
        device: bench_suite::device::DeviceName::Cpu,
        precision: bench_suite::device::Precision::F32,
        code: bench_suite::provenance::Code::default(),
        other_names: Vec::new(),
    }
}

fn cell(planned: &PlannedCell) -> CellRecord {
    CellRecord {
        model: planned.model.clone(),
        protocol: planned.protocol.clone(),
        recipe: planned.recipe.clone(),
        fold: planned.fold,
        seed: planned.seed,
        metric: "accuracy".into(),
        value: 0.5,
        epochs: 1,
        train_clips: 2,
        test_clips: 2,
        epoch_s: Some(0.25),
        peak_rss_bytes: 90_000_000,
        params_input: planned.params_input,
        params_total: planned.params_total,
        standard: None,
        saturated_gates: None,
        frames_wait: None,
        system: None,
        origin: None,
        computed: None,
        card: None,
        split_digest: "s".into(),
        curve: vec![CurvePoint {
            epoch: 1,
            train_loss: 2.0,
            train_value: 0.5,
            test_value: Some(0.5),
            wall_s: 0.25,
        }],
    }
}

fn params() -> Vec<ParamsRow> {
    ["fc", "ttl", "tt-gru"].map(|layer| ParamsRow { rank: 4, layer: layer.into(), params: 3232 }).to_vec()
}
