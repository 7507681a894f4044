//! Where CUDA's libraries are: the program says which it needs, and these are the folders where they may lie.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, anyhow};
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::FileHeader;
use object::{Endianness, ReadCache};

use crate::repo::{self, Repo};

/// What the NVIDIA driver brings; nothing else may.
pub(crate) const DRIVER: &str = "libcuda.so.1";

/// CUDA's toolkit, where it comes from wheels.
pub(crate) const TOOLKIT: &str = "data/cuda/nvidia/cu13";

/// The variable in which the loader looks for folders before anywhere else.
const VARIABLE: &str = "LD_LIBRARY_PATH";

/// A folder that may hold libraries.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
    /// How it came into the list, for people.
    origin: &'static str,
    /// Whether the loader looks there of its own accord.
    known: bool,
}

/// Folders in the order in which they are looked through.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<Place>);

/// What became of the libraries that a program needs.
#[derive(Debug, Default)]
struct Found {
    /// Folders which the loader must be told of.
    folders: Vec<PathBuf>,
    missing: Vec<String>,
}

impl Places {
    /// Every place that can be listed without asking Python.
    pub(crate) fn near(repo: &Repo) -> Self {
        let mut places = Self::default();
        for folder in env::var_os(VARIABLE).iter().flat_map(env::split_paths) {
            places.add(folder, VARIABLE, true);
        }
        for (variable, home) in ["CUDA_HOME", "CUDA_PATH"].map(|name| (name, env::var_os(name))) {
            places.add_toolkit(home.map(PathBuf::from), variable);
        }
        let local = children(Path::new("/usr/local")).into_iter();
        let cuda =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cuda"));
        places.add_toolkit(local.filter(cuda), "/usr/local/cuda*");
        for folder in ldconfig() {
            places.add(folder, "ldconfig", true);
        }
        places.add("/usr/lib/wsl/lib".into(), "WSL", false);
        places.add_toolkit([repo.path(TOOLKIT)], "cargo xtask setup --cuda");
        places
    }

    /// The libraries that PyTorch's wheels bring, of every Python in the path and of the project's own.
    pub(crate) fn add_pythons(&mut self, repo: &Repo) {
        let path = env::var_os("PATH").unwrap_or_default();
        let pythons = env::split_paths(&path).map(|dir| dir.join("python3"));
        let own = repo.path("data/peers/env/torch/bin/python");
        let pythons = pythons.chain([own]).filter(|python| python.is_file());
        for site in pythons.filter_map(|python| sites(&python)).flatten() {
            self.add_site(&site);
        }
    }

    /// The folders `nvidia/*/lib` of a folder of Python packages.
    fn add_site(&mut self, site: &Path) {
        for package in children(&site.join("nvidia")) {
            self.add(package.join("lib"), "Python's packages", false);
        }
    }

    fn add_toolkit(&mut self, homes: impl IntoIterator<Item = PathBuf>, origin: &'static str) {
        for home in homes {
            self.add(home.join("lib64"), origin, false);
            self.add(home.join("lib"), origin, false);
        }
    }

    fn add(&mut self, folder: PathBuf, origin: &'static str, known: bool) {
        if folder.is_dir() && !self.0.iter().any(|place| place.folder == folder) {
            self.0.push(Place { folder, origin, known });
        }
    }

    /// Looks for CUDA's libraries among those which a program needs, and for those that these need.
    ///
    /// # Errors
    /// If the program or a library is no ELF file that can be read.
    fn find(&self, program: &Path) -> Result<Found> {
        let mut found = Found::default();
        let mut seen = BTreeSet::new();
        let mut files = vec![program.to_owned()];
        while let Some(file) = files.pop() {
            for name in needed(&file)?.into_iter().filter(|name| is_cuda(name)) {
                if !seen.insert(name.clone()) {
                    continue;
                }
                match self.0.iter().find(|place| place.folder.join(&name).exists()) {
                    Some(place) => {
                        files.push(place.folder.join(&name));
                        if !place.known && !found.folders.contains(&place.folder) {
                            found.folders.push(place.folder.clone());
                        }
                    }
                    None => found.missing.push(name),
                }
            }
        }
        Ok(found)
    }

    /// The first folder that holds a library.
    pub(crate) fn folder_of(&self, name: &str) -> Option<&Path> {
        self.0.iter().map(|place| &*place.folder).find(|folder| folder.join(name).exists())
    }

    /// Tells a child's loader of the folders, after those that it was told of already.
    fn set(&self, command: &mut Command, folders: Vec<PathBuf>) -> Result<()> {
        let told: Vec<_> = self.0.iter().filter(|place| place.origin == VARIABLE).collect();
        let all = told.iter().map(|place| place.folder.clone()).chain(folders);
        let all: OsString = env::join_paths(all).context("a folder of libraries has a colon in its name")?;
        if !all.is_empty() {
            command.env(VARIABLE, all);
        }
        Ok(())
    }

    /// The first file whose name begins so.
    pub(crate) fn starting_with(&self, stem: &str) -> Option<PathBuf> {
        let fits =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem));
        self.0.iter().find_map(|place| children(&place.folder).into_iter().find(fits))
    }

    /// Another version of a library that is somewhere.
    fn relative(&self, name: &str) -> Option<PathBuf> {
        self.starting_with(&format!("{}.so.", name.split(".so").next()?))
    }
}

/// Tells the loader of a program where CUDA's libraries are.
///
/// # Errors
/// If one is nowhere.
pub(crate) fn tell(command: &mut Command, program: &Path, repo: &Repo) -> Result<()> {
    let mut places = Places::near(repo);
    let mut found = places.find(program)?;
    if !found.missing.is_empty() {
        places.add_pythons(repo);
        found = places.find(program)?;
    }
    if found.missing.is_empty() {
        return places.set(command, found.folders);
    }
    Err(missing(&repo.show(program), &found.missing, &places))
}

/// What is missing, what there is in its place, and where was looked.
fn missing(program: &str, names: &[String], places: &Places) -> Error {
    let names = names.iter().map(|name| match (name.as_str(), places.relative(name)) {
        (DRIVER, _) => format!("{name} (of the NVIDIA driver)"),
        (_, Some(other)) => format!("{name} (another version is there: {})", other.display()),
        _ => name.clone(),
    });
    let names: Vec<_> = names.collect();
    let mut by_origin: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for place in &places.0 {
        by_origin.entry(place.origin).or_default().push(place.folder.display().to_string());
    }
    let looked = by_origin.iter().map(|(origin, folders)| format!("\n  {origin}: {}", folders.join(", ")));
    let looked: String = looked.collect();
    anyhow!(
        "{program} needs libraries that are not here: {}\nlooked in{}\n(also {VARIABLE}, CUDA_HOME, \
         /usr/local/cuda*, ldconfig -p, {TOOLKIT}, and nvidia/*/lib of every python3 in the path, where they are)",
        names.join(", "),
        if looked.is_empty() { " no folder at all" } else { &looked }
    )
}

/// Libraries which a program or library names as needed.
///
/// # Errors
/// If the file is no 64-bit ELF file.
pub(crate) fn needed(file: &Path) -> Result<Vec<String>> {
    let read = || -> Result<Vec<String>> {
        let data = ReadCache::new(File::open(file)?);
        let header = FileHeader64::<Endianness>::parse(&data)?;
        let endian = header.endian()?;
        let dynamic = header.sections(endian, &data)?.dynamic_table(endian, &data)?;
        let names = dynamic.iter().filter(|entry| entry.tag == DT_NEEDED);
        names.map(|entry| Ok(String::from_utf8_lossy(dynamic.string(entry)?).into_owned())).collect()
    };
    read().with_context(|| format!("failed to read which libraries {} needs", file.display()))
}

/// Whether a library is NVIDIA's; the others are the system's, and the loader's business.
fn is_cuda(name: &str) -> bool {
    ["libcu", "libnv"].iter().any(|prefix| name.starts_with(prefix))
}

/// Folders in which the loader's cache knows libraries of CUDA, of this machine's word size.
fn ldconfig() -> Vec<PathBuf> {
    let ask = |program| repo::output(Command::new(program).arg("-p"));
    let text = ask("ldconfig").or_else(|| ask("/sbin/ldconfig")).unwrap_or_default();
    cached(&text)
}

/// The folders in the text of `ldconfig -p`: lines such as `libcuda.so.1 (libc6,x86-64) => /lib/libcuda.so.1`.
fn cached(text: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (name, path) in text.lines().filter_map(|line| line.trim().split_once(" => ")) {
        let folder = Path::new(path).parent().map(Path::to_owned).unwrap_or_default();
        if is_cuda(name) && name.contains("64") && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Where a Python looks for packages.
fn sites(python: &Path) -> Option<Vec<PathBuf>> {
    let mut ask = Command::new(python);
    ask.args(["-c", "import sys; print(*sys.path, sep='\\n')"]);
    Some(repo::output(&mut ask)?.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect())
}

/// What a folder holds, by name.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// Makes a shared library by the C compiler that also links Rust; it needs others, found or not.
    fn library(file: &Path, needs: &[&Path]) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let soname = file.file_name().unwrap().display();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-nostdlib", &format!("-Wl,--no-as-needed,-soname,{soname}")]);
        let made = cc.args(["-x", "c", "/dev/null", "-x", "none", "-o"]).arg(file).args(needs).status();
        assert!(made.unwrap().success());
    }

    /// A program that needs cuBLAS, which needs cuBLASLt, and a driver, in three folders below `root`.
    fn program(root: &Path) -> PathBuf {
        let [blas, lt, driver] = [
            "torch/nvidia/cublas/lib/libcublas.so.13",
            "toolkit/lib64/libcublasLt.so.13",
            "driver/libcuda.so.1",
        ]
        .map(|name| root.join(name));
        library(&lt, &[]);
        library(&driver, &[]);
        library(&blas, &[&lt]);
        let program = root.join("bench-suite");
        library(&program, &[&blas, &driver]);
        program
    }

    #[test]
    fn a_program_names_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(needed(&program(dir.path())).unwrap(), ["libcublas.so.13", "libcuda.so.1"]);
        assert!(needed(Path::new("Cargo.toml")).is_err());
    }

    #[test]
    fn the_loader_is_told_of_folders_that_it_does_not_know() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let program = program(root);
        let mut places = Places::default();
        places.add(root.join("driver"), "ldconfig", true);
        places.add_toolkit([root.join("toolkit")], "CUDA_HOME");
        places.add_site(&root.join("torch"));
        let found = places.find(&program).unwrap();
        assert_eq!(found.missing, [""; 0]);
        let expected = [root.join("torch/nvidia/cublas/lib"), root.join("toolkit/lib64")];
        assert_eq!(found.folders, expected);
        let mut command = Command::new(&program);
        places.set(&mut command, found.folders).unwrap();
        let told = command.get_envs().next().unwrap();
        assert_eq!(told.1.unwrap(), env::join_paths(expected).unwrap());
        assert_eq!(places.folder_of("libcuda.so.1"), Some(&*root.join("driver")));
    }

    #[test]
    fn what_is_missing_is_named_with_the_places() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let program = program(root);
        fs::rename(
            root.join("torch/nvidia/cublas/lib/libcublas.so.13"),
            root.join("toolkit/lib64/libcublas.so.12"),
        )
        .unwrap();
        let mut places = Places::default();
        places.add_toolkit([root.join("toolkit")], "CUDA_HOME");
        let found = places.find(&program).unwrap();
        assert_eq!(found.missing, ["libcublas.so.13", "libcuda.so.1"]);
        let text = missing("target/cuda/release/bench-suite", &found.missing, &places).to_string();
        insta::assert_snapshot!(text.replace(&root.display().to_string(), "ROOT"));
        let nowhere = missing("bench-suite", &found.missing, &Places::default()).to_string();
        assert!(nowhere.contains("looked in no folder at all"), "{nowhere}");
    }

    #[test]
    fn the_loaders_cache_is_read() {
        let text = "3 libs found in cache `/etc/ld.so.cache'\n\tlibcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1\n\
                    \tlibcuda.so.1 (libc6) => /lib/i386-linux-gnu/libcuda.so.1\n\
                    \tlibc.so.6 (libc6,x86-64) => /lib/other/libc.so.6\n";
        assert_eq!(cached(text), [Path::new("/lib/x86_64-linux-gnu")]);
    }
}
