//! What is installed, and what is built: nothing that was not asked for.

use std::fs;

use crate::fake::{Fake, script, stderr};

/// Without FFmpeg's development packages, with an apt-get that says so when it is told to install.
fn bare() -> Fake {
    let fake = Fake::new();
    script(
        &fake.path("bin/pkg-config"),
        "#!/bin/sh\ncase $1 in --exists) test -e \"$FAKE/installed\";; esac\n",
    );
    script(
        &fake.path("bin/apt-get"),
        "#!/bin/sh\necho \"$@\" >> \"$FAKE/apt\"\ncase $1 in install) touch \"$FAKE/installed\";; esac\n",
    );
    script(&fake.path("bin/id"), "#!/bin/sh\necho 0\n");
    fake
}

#[test]
fn only_the_two_commands_of_the_readme_install_unasked() {
    let fake = bare();
    fs::create_dir_all(fake.path("clips/a")).unwrap();
    for line in [
        "plan ucf11",
        "compare ucf11",
        "ablation miracl-words --data clips",
        "data import folder clips",
        "data verify folder",
        "stress clips --count 1",
    ] {
        let output = fake.xtask(line);
        let text = stderr(&output);
        assert!(!output.status.success(), "{line} succeeds: {text}");
        assert!(text.contains("libavcodec-dev") && text.contains("give --install"), "{line}: {text}");
        assert!(!fake.path("fake/apt").exists(), "{line} installs something");
    }
    for (line, installs) in
        [("data import folder clips --install", true), ("reproduce ucf11", true), ("figures", false)]
    {
        let fake = bare();
        fs::create_dir_all(fake.path("clips")).unwrap();
        let output = fake.xtask(line);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        assert_eq!(fake.path("fake/apt").exists(), installs, "{line}");
    }
}

#[test]
fn looking_installs_nothing_and_builds_no_engine() {
    let fake = bare();
    for line in ["data list", "data stats folder", "data remove folder"] {
        fake.xtask(line);
        let built = fake.read("fake/cargo");
        let only = "build --release --package bench-suite --no-default-features --features catalog --bin clip-catalog --quiet";
        assert!(built.lines().all(|line| line == only), "{line}: {built}");
        assert!(fake.read("fake/calls").contains(&format!("clip-catalog {}", &line[5..])), "{line}");
    }
    fs::remove_file(fake.path("fake/cargo")).unwrap();
    for line in ["figures", "status ucf11", "predict ucf11 clip.mp4"] {
        fake.xtask(line);
        assert!(!fake.path("fake/cargo").exists(), "{line} builds something");
    }
    assert!(!fake.path("fake/apt").exists(), "something was installed");
}

/// A finished cell is there, and no package: the predictor is not built, and nothing is installed for it.
#[test]
fn predict_names_what_is_missing_and_installs_nothing() {
    let fake = Fake::new();
    assert!(fake.xtask("reproduce ucf11").status.success());
    fake.write("data/runs/0123abcd/cells/tt-gru.clips.scaled.f0.s0/weights.safetensors", b"");
    script(&fake.path("bin/pkg-config"), "#!/bin/sh\ncase $1 in --exists) exit 1;; esac\n");
    script(&fake.path("bin/apt-get"), "#!/bin/sh\ntouch \"$FAKE/apt\"\n");
    let output = fake.xtask("predict ucf11-sample clip.mp4");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("libavcodec-dev") && text.contains("sudo apt-get install"), "{text}");
    assert!(!text.contains("--install "), "{text}");
    assert!(!fake.path("fake/apt").exists(), "something was installed");
}
