//! Python environments, one per framework group, every version pinned.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::dev::peers::case::Case;
use crate::dev::peers::check::Tensors;
use crate::dev::peers::plan::Home;
use crate::dev::peers::worker::Worker;

/// The CPU builds of PyTorch; elsewhere its wheels for Linux bring CUDA along.
const TORCH_CPU_INDEX: &str = "https://download.pytorch.org/whl/cpu";
/// t3nsor is in no package index: its row needs a clone of onucharles/tensorized-rnn here.
const T3NSOR: &str = "tensorized-rnn";

/// An environment before it is made.
struct Recipe {
    home: Home,
    name: &'static str,
    /// Requirement files that decide whether it is up to date.
    pins: &'static [&'static str],
    /// What must import.
    import: &'static str,
    /// Disk it takes at most.
    gib: f64,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        home: Home::Torch,
        name: "torch",
        pins: &["torch-libraries.txt", "torch.txt", "torch-shared-objects.txt", "torch-from-source.txt"],
        import: "torch",
        gib: 4.3,
    },
    Recipe { home: Home::Jax, name: "jax", pins: &["jax.txt"], import: "jax", gib: 0.6 },
    Recipe { home: Home::Tensorflow, name: "tf", pins: &["tf.txt"], import: "t3f", gib: 1.6 },
];

/// The environments of a run: each a Python, or the reason why there is none.
#[derive(Debug)]
pub(super) struct Environments {
    pythons: BTreeMap<Home, std::result::Result<PathBuf, String>>,
    scripts: PathBuf,
    t3nsor: PathBuf,
    /// What torch.compile leaves.
    compiled: PathBuf,
}

impl Environments {
    /// Makes what is missing of the wanted ones, after saying what disk that takes.
    pub(super) fn ensure(
        root: &Path,
        data: &Path,
        (python, offline): (&str, bool),
        wanted: &[Home],
    ) -> Result<Self> {
        let logs = data.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("failed to make {}", logs.display()))?;
        let scripts = root.join("xtask/peers");
        let recipes: Vec<_> = RECIPES.iter().filter(|recipe| wanted.contains(&recipe.home)).collect();
        let installers = recipes
            .iter()
            .map(|recipe| Installer::new(recipe, data, &scripts, python))
            .collect::<Result<Vec<_>>>()?;
        let to_make = installers.iter().filter(|installer| !installer.is_current());
        let missing = to_make.fold(0.0, |sum, installer| sum + installer.recipe.gib);
        eprintln!(
            "disk: {missing:.1} GiB for Python environments still to make (torch 4.3 GiB, 0.9 from its CPU \
             index; jax 0.6; tf 1.6), and 0.4 GiB of frames and weights while it runs, all in {}",
            data.display()
        );
        let mut pythons = BTreeMap::new();
        for installer in installers {
            let made = installer.ensure(offline);
            if let Err(reason) = &made {
                eprintln!("environment {}: {reason:#}", installer.recipe.name);
            }
            pythons.insert(installer.recipe.home, made.map_err(|reason| format!("{reason:#}")));
        }
        Ok(Self { pythons, scripts, t3nsor: data.join(T3NSOR), compiled: data.join("compiled") })
    }

    /// The Python of an environment.
    pub(super) fn python(&self, home: Home) -> Result<&Path> {
        match self.pythons.get(&home) {
            Some(Ok(python)) => Ok(python),
            Some(Err(reason)) => bail!("not installable here: {reason}"),
            None => bail!("no environment was made for it"),
        }
    }

    /// The command of a Python peer.
    pub(super) fn command(&self, home: Home, peer: &str) -> Result<Command> {
        let python = self.python(home)?;
        if peer == "t3nsor" && !self.t3nsor.is_dir() {
            // Records keep the reason, and know no folder outside of the repository.
            bail!("not installable from PyPI: clone onucharles/tensorized-rnn into data/peers/{T3NSOR}");
        }
        let mut command = Command::new(python);
        command.arg(self.scripts.join("worker.py")).env("TT_PEERS_T3NSOR", &self.t3nsor);
        command.env("TORCHINDUCTOR_CACHE_DIR", &self.compiled).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }

    /// Runs the reference of a case in whichever environment there is.
    ///
    /// # Errors
    /// If there is none: without a reference nothing can be compared.
    pub(super) fn reference(&self, case: &Case, data: &Path, threads: usize) -> Result<Tensors> {
        let home = self.pythons.iter().find_map(|(home, made)| made.is_ok().then_some(*home));
        let home = home.context("no Python environment could be made, and the reference needs NumPy")?;
        let log = data.join("logs").join(format!("{}-reference.log", case.id));
        let out = data.join("cases").join(&case.id).join("reference");
        let check = || {
            let mut worker = Worker::start(&mut self.command(home, "reference")?, &log)?;
            let header = &case.header;
            worker.ask(&json!({"cmd": "init", "peer": "reference", "case": header, "threads": threads}))?;
            Tensors::read(&out, &worker.ask(&json!({"cmd": "check", "out": out}))?)
        };
        check().with_context(|| format!("the reference of {} failed, see {}", case.id, log.display()))
    }
}

struct Installer {
    recipe: &'static Recipe,
    folder: PathBuf,
    requirements: PathBuf,
    log: PathBuf,
    base: String,
    /// Pins as one text: what the stamp must say.
    pins: String,
}

impl Installer {
    fn new(recipe: &'static Recipe, data: &Path, scripts: &Path, base: &str) -> Result<Self> {
        let requirements = scripts.join("requirements");
        let mut pins = String::new();
        for name in recipe.pins {
            let path = requirements.join(name);
            pins +=
                &fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        }
        Ok(Self {
            recipe,
            folder: data.join("env").join(recipe.name),
            requirements,
            log: data.join("logs").join(format!("install-{}.log", recipe.name)),
            base: base.to_owned(),
            pins,
        })
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("installed.txt")
    }

    fn is_current(&self) -> bool {
        fs::read_to_string(self.stamp()).is_ok_and(|stamp| stamp == self.pins)
    }

    fn ensure(&self, offline: bool) -> Result<PathBuf> {
        if self.is_current() {
            return Ok(self.python());
        }
        if offline {
            bail!("{} is missing or out of date, and --offline forbids installing", self.folder.display());
        }
        eprintln!("installing {} (log: {})", self.recipe.name, self.log.display());
        File::create(&self.log).with_context(|| format!("failed to write {}", self.log.display()))?;
        self.logged(Command::new(&self.base).args(["-m", "venv", "--clear"]).arg(&self.folder))?;
        if self.recipe.home == Home::Torch { self.torch() } else { self.pip(self.recipe.pins, &[]) }?;
        if !self.imports() {
            bail!("python cannot import {}, see {}", self.recipe.import, self.log.display());
        }
        fs::write(self.stamp(), &self.pins)?;
        Ok(self.python())
    }

    /// The CPU build where its index is reachable, else the ordinary wheel and as little CUDA as it needs; then what is built
    /// with it.
    fn torch(&self) -> Result<()> {
        let [libraries, torch, shared_objects, from_source] = self.recipe.pins else {
            bail!("the torch environment has four requirement files");
        };
        self.pip(&[libraries], &[])?;
        self.torch_itself(torch, shared_objects)?;
        // Its setup asks for PyTorch, and goes on without the C++ that no layer of it uses.
        let mut pip = self.pip_install(&[from_source], &["--no-build-isolation"]);
        if let Err(reason) = self.logged(pip.env("CC", "false").env("CXX", "false")) {
            eprintln!(
                "left out of the torch environment, until {} is removed: {reason:#}",
                self.folder.display()
            );
        }
        Ok(())
    }

    fn torch_itself(&self, torch: &str, shared_objects: &str) -> Result<()> {
        let cpu = ["--index-url", TORCH_CPU_INDEX, "--retries", "0", "--timeout", "15"];
        if self.pip(&[torch], &cpu).is_ok() && self.imports() {
            return Ok(());
        }
        eprintln!("PyTorch's CPU index is not reachable: taking the ordinary wheel");
        self.pip(&[torch], &[])?;
        if self.imports() { Ok(()) } else { self.pip(&[shared_objects], &[]) }
    }

    fn pip(&self, files: &[&str], options: &[&str]) -> Result<()> {
        self.logged(&mut self.pip_install(files, options))
    }

    fn pip_install(&self, files: &[&str], options: &[&str]) -> Command {
        let mut pip = Command::new(self.python());
        pip.args(["-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]).args(options);
        for file in files {
            pip.arg("-r").arg(self.requirements.join(file));
        }
        pip
    }

    fn imports(&self) -> bool {
        self.logged(Command::new(self.python()).args(["-c", &format!("import {}", self.recipe.import)]))
            .is_ok()
    }

    fn logged(&self, command: &mut Command) -> Result<()> {
        let log = OpenOptions::new().append(true).open(&self.log)?;
        let program = command.get_program().display().to_string();
        let status = command.stdout(log.try_clone()?).stderr(log).status();
        if status.with_context(|| format!("failed to start {program}"))?.success() {
            return Ok(());
        }
        let text = fs::read_to_string(&self.log)?;
        let lines = text.lines().rev();
        let reason = lines.map(str::trim).find(|line| line.starts_with("ERROR") || line.contains("Error"));
        bail!("{} (log: {})", reason.unwrap_or("no reason given"), self.log.display())
    }
}
