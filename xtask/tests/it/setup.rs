//! `cargo xtask setup`: what it prints, what it refuses, and in which words.

use std::process::Command;

use crate::fake::{Fake, stderr};

#[test]
fn setup_alone_looks_and_installs_nothing() {
    let fake = Fake::new();
    let output = fake.command("setup").env("CUDA_HOME", fake.path("no-toolkit")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", stderr(&output));
    for line in [
        "FFmpeg",
        "C compiler",
        "Python",
        "Slurm",
        "NVIDIA driver",
        "CUDA toolkit",
        "pretrained",
        "device auto",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line:?} is not in {text}");
    }
    assert!(text.contains("not built yet; `cargo xtask setup --cuda`"), "{text}");
    assert!(text.contains("device auto   cpu"), "{text}");
    assert!(!fake.path("fake/cargo").exists() && !fake.path("data").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn the_libraries_that_a_program_for_cuda_lacks_are_named() {
    let fake = Fake::new();
    std::fs::create_dir_all(fake.path("target/cuda/release")).unwrap();
    std::fs::create_dir_all(fake.path("toolkit/lib64")).unwrap();
    let library = fake.path("toolkit/lib64/libcudart.so.77");
    let make = |out: &str, more: &[&str]| {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-nostdlib", "-x", "c", "/dev/null", "-x", "none", "-Wl,--no-as-needed"])
            .args(more);
        assert!(cc.arg("-o").arg(fake.path(out)).status().unwrap().success());
    };
    make("toolkit/lib64/libcudart.so.77", &["-Wl,-soname,libcudart.so.77"]);
    make("target/cuda/release/bench-suite", &[library.to_str().unwrap()]);
    let setup = |home: &str| {
        let output = fake.command("setup").env("CUDA_HOME", fake.path(home)).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!setup("toolkit").contains("needs libraries"), "{}", setup("toolkit"));
    let lacking = setup("no-toolkit");
    assert!(lacking.contains("needs libraries that are not here: libcudart.so.77"), "{lacking}");
}

/// A driver tells its version by the name of its library; one that is too old is named before anything is done.
#[cfg(target_os = "linux")]
#[test]
fn a_driver_that_is_too_old_is_named() {
    let fake = Fake::new();
    let driver = |version: &str| {
        let folder = fake.path(version);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("libcuda.so.{version}")), "").unwrap();
        std::os::unix::fs::symlink(format!("libcuda.so.{version}"), folder.join("libcuda.so.1")).unwrap();
        let mut command = fake.command("setup --cuda");
        command.env("LD_LIBRARY_PATH", folder).env("PATH", fake.path("bin"));
        command.env_remove("CUDA_HOME").env_remove("CUDA_PATH");
        command
    };
    let said = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        stderr(&output)
    };
    let text = said(driver("470.256.02"));
    assert!(text.contains("NVIDIA's driver 470.256.02 is too old: CUDA 13 needs 580 or later"), "{text}");
    crate::fake::script(&fake.path("bin/c++"), "#!/bin/sh\nexit 0\n");
    let nvcc = |home: &str, version: &str| {
        std::fs::create_dir_all(fake.path(home).join("bin")).unwrap();
        let text = format!("#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.1'\n");
        crate::fake::script(&fake.path(home).join("bin/nvcc"), &text);
    };
    nvcc("new", "12.8");
    let mut command = driver("550.54.15");
    command.env("CUDA_HOME", fake.path("new"));
    let text = said(command);
    for part in ["CUDA toolkit 12.8 in new: too new", "takes CUDA up to 12.4, not 13.0", "in CUDA_HOME"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    nvcc("old", "12.4");
    let mut command = driver("551.1");
    let text = stderr(&command.env("CUDA_HOME", fake.path("old")).output().unwrap());
    assert!(text.contains("CUDA toolkit 12.4 in old\n"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_machine_without_pip_network_or_compiler_is_told_so() {
    let fake = Fake::new();
    let said = |line: &str| {
        let mut command = fake.command(line);
        let path = std::env::join_paths([fake.path("bin")]).unwrap();
        let output =
            command.env("PATH", path).env_remove("CUDA_HOME").env_remove("CUDA_PATH").output().unwrap();
        assert!(!output.status.success(), "{line} succeeds");
        stderr(&output)
    };
    assert!(said("setup --metal").contains("Metal is built on macOS"));
    assert!(said("setup --compute-cap 90").contains("--cuda"));
    assert!(said("setup --cuda --compute-cap 75").contains("75 is not in 80.."));
    assert!(said("setup --cuda").contains("nvcc needs a C++ compiler"));
    if std::path::Path::new("/usr/local/cuda/bin/nvcc").exists() {
        eprintln!("skipped: pip's errors need a machine without /usr/local/cuda");
        return;
    }
    let script = |name: &str, text: &str| crate::fake::script(&fake.path("bin").join(name), text);
    script("c++", "#!/bin/sh\nexit 0\n");
    let text = said("setup --cuda");
    assert!(text.contains("pip is missing"), "{text}");
    script(
        "pip3",
        "#!/bin/sh\ncase $1 in --version) ;; *) echo \"NameResolutionError: no such host\"; exit 1;; esac\n",
    );
    let text = said("setup --cuda");
    assert!(text.contains("pip reaches no package index") && text.contains("is there a network?"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn weights_that_are_not_the_known_ones_or_no_file_are_refused() {
    let fake = Fake::new();
    let script = |name: &str, text: &str| crate::fake::script(&fake.path("bin").join(name), text);
    script(
        "python3",
        "#!/bin/sh\ncase $2 in pip) exit 1;; esac\n[ $1 = -c ] || exit 1\necho other > \"$4\"\n",
    );
    script(
        "pip3",
        "#!/bin/sh\nfor last; do :; done\ncase $1 in\n--version) ;;\ndownload) while [ $1 != --dest ]; do shift; done\n\
         touch \"$2/network.whl\";;\nesac\n",
    );
    let said = |line: &str| {
        let mut path = vec![fake.path("bin")];
        path.extend(std::env::split_paths("/usr/bin:/bin"));
        let path = std::env::join_paths(path).unwrap();
        let output = fake.command(line).env("PATH", path).output().unwrap();
        assert!(!output.status.success(), "{line} succeeds");
        stderr(&output)
    };
    let other = said("setup --pretrained lite0");
    assert!(other.contains("they are not the ones that this project knows"), "{other}");
    assert!(!fake.path("data/pretrained/lite0.safetensors").exists());
    let none = said("setup --pretrained lite1");
    assert!(none.contains("--pretrained takes lite0 or a file, and lite1 is none"), "{none}");
    let both = said("setup --pretrained lite0 --cuda");
    assert!(both.contains("cannot be used with"), "{both}");
}
