//! What is refused before anything is built, and in which words.

use crate::fake::{Fake, stderr};

/// Each line of bad input with the words that its error must have.
#[test]
fn bad_input_is_refused_before_anything_is_built() {
    let fake = Fake::new();
    std::fs::create_dir_all(fake.path("empty")).unwrap();
    fake.write("file", b"");
    for (line, words) in [
        ("reproduce ucf12", vec!["unknown experiment \"ucf12\"", "\"ucf11\""]),
        ("reproduce ucf11 --models tt-gru,ttgru", vec!["unknown model \"ttgru\"", "\"tt-gru\""]),
        ("reproduce ucf11 --recipe scald", vec!["unknown recipe \"scald\"", "\"scaled\""]),
        ("reproduce ucf11 --protocol clip", vec!["unknown protocol \"clip\"", "\"clips\""]),
        ("reproduce ucf11 --set model.rnak=5", vec!["model.rnak", "model.rank"]),
        ("reproduce ucf11 --device cuda", vec!["device cuda needs", "not built", "cargo xtask setup --cuda"]),
        ("ablation miracl-words --device cuda:1", vec!["device cuda:1 needs", "cargo xtask setup --cuda"]),
        ("compare --devices cpu,metal", vec!["device metal needs", "not built", "cargo xtask setup --metal"]),
        ("bench gpu", vec!["device cuda needs", "cargo xtask setup --cuda"]),
        ("bench kernels --device cuda", vec!["device cuda needs", "cargo xtask setup --cuda"]),
        ("reproduce ucf11 --device gpu", vec!["unknown device \"gpu\"", "auto, cpu, cuda, cuda:N, metal"]),
        (
            "reproduce ucf11 --precision tf32",
            vec!["precision tf32 is for CUDA devices", "cpu computes in f32"],
        ),
        ("reproduce ucf11 --precision f16", vec!["unknown precision \"f16\"", "f32, tf32, bf16"]),
        ("reproduce ucf11 --data nowhere", vec!["--data nowhere cannot be read"]),
        ("reproduce ucf11 --data file", vec!["--data file cannot be read"]),
        ("reproduce ucf11 --data empty", vec!["--data empty is empty"]),
        ("reproduce folder --data empty --split nowhere.csv", vec!["--split nowhere.csv: no such file"]),
        ("reproduce ucf11-sample --data empty", vec!["renders its own clips"]),
        ("reproduce ucf11 --data empty --sample", vec!["cannot be used with", "--sample"]),
        ("reproduce ut-interaction --sample", vec!["ut-interaction has no rendered sample"]),
        (
            "reproduce ucf11 --allow-partial",
            vec!["data/ucf11/ does not exist", "--allow-partial needs the clips"],
        ),
        (
            "reproduce ucf11 --set data.folder=mine",
            vec!["data/mine/ does not exist", "--set data.folder needs"],
        ),
        ("compare ucf11 --data nowhere", vec!["--data nowhere cannot be read"]),
        ("reproduce ut-interaction", vec!["needs clips", "--data DIR", "data/ut-interaction/"]),
        ("reproduce ucf11 --out file", vec!["results folder", "file cannot be written"]),
        ("reproduce ucf11 --jobs 0", vec!["expected a whole number from 1"]),
        ("reproduce ucf11 --on pbs", vec!["invalid value 'pbs'", "slurm"]),
        ("reproduce ucf11 --on slurm --jobs 2", vec!["cannot be used with '--jobs <N>'"]),
        ("reproduce ucf11 --max-parallel 2", vec!["--on <ENGINE>"]),
        ("status ucf11", vec!["no run of \"ucf11\"", "cargo xtask reproduce ucf11"]),
        ("predict --model-file nothing clip.mp4", vec!["nothing is not a file", "data/models/"]),
        ("predict ucf11", vec!["a run and its clips are needed", "--model-file FILE"]),
        ("figures nothing", vec!["nothing holds no records"]),
        ("figures --out empty", vec!["empty holds no records"]),
        (
            "reproduce ucf11 --set train.lr=abc",
            vec!["--set train.lr=abc", "train.lr takes a value of type float"],
        ),
        ("predict out/gone clip.mp4", vec!["out/gone is not there", "cargo xtask export RUN --to DIR"]),
        ("export ./empty --to new", vec!["./empty holds no config.json", "cargo xtask export RUN --to DIR"]),
        ("results list nosuch", vec!["results/nosuch is not there; results of: none"]),
        ("results remove nosuch run --yes", vec!["results/nosuch is not there; results of: none"]),
        ("ledger miracl-words --data DIR", vec!["`ledger` is called `ablation` now", "cargo xtask ablation"]),
        ("torture resume", vec!["`torture` is called `stress` now"]),
    ] {
        let output = fake.xtask(line);
        let text = stderr(&output);
        assert!(!output.status.success(), "{line} succeeds");
        for word in words {
            assert!(text.contains(word), "{line}: {word:?} is not in {text}");
        }
        assert!(!fake.path("fake/cargo").exists(), "{line} builds something");
        assert!(!fake.path("data").exists(), "{line} makes data/");
    }
}

#[test]
fn a_machine_without_slurm_is_told_so() {
    let fake = Fake::new();
    let output = fake.command("reproduce ucf11 --on slurm").env("PATH", fake.path("bin")).output().unwrap();
    let text = stderr(&output);
    assert!(!output.status.success());
    assert!(text.contains("sbatch cannot be started") && text.contains("node of the cluster"), "{text}");
    assert!(!fake.path("fake/cargo").exists());
}

#[test]
fn help_goes_to_standard_output() {
    let output = Fake::new().xtask("help");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("cargo xtask reproduce ucf11"));
}
