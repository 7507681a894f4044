//! Models as folders, with the real engine.

use std::fs;

use crate::fake::{Fake, repo, stderr};
use crate::predict::with_engine;

/// The answers of `predict` as JSON.
fn answers(fake: &Fake, line: &str) -> serde_json::Value {
    let output = fake.xtask(&format!("predict {line} --json"));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_model_folder_predicts_as_its_run_does_and_says_how_it_scored() {
    let Some(fake) = with_engine() else { return };
    let models = "tt-gru,tt-mlp,lstm,mean-frame";
    let output = fake.xtask(&format!("reproduce folder-sample --models {models} --folds 0 --epochs 1"));
    assert!(output.status.success(), "{}", stderr(&output));
    let output = fake.xtask("reproduce folder-sample --models tt-gru --protocol groups --epochs 1");
    assert!(output.status.success(), "{}", stderr(&output));
    let clip = fs::read_dir(fake.path("data/folder-sample/left/scene_1")).unwrap().next().unwrap().unwrap();
    let clip = clip.path().display().to_string();
    for model in ["tt-gru", "tt-mlp", "lstm"] {
        let output =
            fake.xtask(&format!("export folder-sample --model {model} --protocol clips --to out/{model}"));
        assert!(output.status.success(), "{}", stderr(&output));
        let run = answers(&fake, &format!("folder-sample --model {model} --protocol clips {clip}"));
        assert_eq!(answers(&fake, &format!("out/{model} {clip}")), run, "{model}");
    }
    let config: serde_json::Value = serde_json::from_str(&fake.read("out/tt-gru/config.json")).unwrap();
    let scores = config["trained"]["scores"].as_array().unwrap();
    let protocols: Vec<&str> = scores.iter().map(|score| score["protocol"].as_str().unwrap()).collect();
    assert_eq!(protocols, ["clips", "groups"], "{scores:?}");
    assert_eq!((&scores[0]["of_this_model"], &scores[1]["of_this_model"]), (&true.into(), &false.into()));
    let table = fake.read("results/folder-sample/table.csv");
    for (score, protocol) in scores.iter().zip(protocols) {
        let start = format!("tt-gru,{protocol},");
        let row: Vec<&str> = table.lines().find(|row| row.starts_with(&start)).unwrap().split(',').collect();
        for (value, column) in [(&score["value"], 4), (&score["interval"][0], 6), (&score["interval"][1], 7)]
        {
            let expected = row[column].parse::<f64>().ok();
            let apart = value.as_f64().zip(expected).map(|(value, expected)| (value - expected).abs());
            assert!(
                value.is_null() == expected.is_none() && apart.is_none_or(|d| d < 1e-9),
                "{score} {row:?}"
            );
        }
    }
    let card = fake.read("out/tt-gru/README.md");
    for part in ["# tt-gru of folder-sample", "| this model | clips |", "models trained alike, mean of "] {
        assert!(card.contains(part), "{part:?} is not in {card}");
    }

    let output = fake.xtask("export folder-sample --model mean-frame --to out/mean-frame");
    assert!(!output.status.success() && stderr(&output).contains("mean-frame is a control"));
    fake.write("out/notes.txt", b"mine");
    let output = fake.xtask("export folder-sample --to out");
    assert!(stderr(&output).contains("holds other files and no model: name a new folder"));
    assert_eq!(fake.read("out/notes.txt"), "mine");
    what_is_there_stays(&fake);
    let output = fake.xtask("export folder-sample --model gru --to out/gru");
    assert!(stderr(&output).contains("no finished cell of \"folder-sample\" has model gru"));
    fs::remove_file(fake.path("out/lstm/model.safetensors")).unwrap();
    let output = fake.xtask(&format!("predict out/lstm {clip}"));
    assert!(stderr(&output).contains("out/lstm/model.safetensors: it is not there"), "{}", stderr(&output));
}

/// Models, graphs and pages that are there are replaced only where that is asked for, and a model never by itself.
fn what_is_there_stays(fake: &Fake) {
    let refused = |line: &str, reason: &str| {
        let output = fake.xtask(line);
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(reason), "{line}: {said}");
    };
    let done = |line: &str| {
        let output = fake.xtask(line);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
    };
    let size = |file: &str| fs::metadata(fake.path(file)).unwrap().len();
    let whole = size("out/tt-gru/model.safetensors");
    refused(
        "export folder-sample --to out/tt-gru --weights int8",
        "holds a model already: --force replaces it",
    );
    let itself = "out/tt-gru is the model that is exported: name another folder";
    refused("export out/tt-gru --to out/tt-gru --weights int8 --force", itself);
    refused("export out/tt-gru --to out/../out/tt-gru --force", "is the model that is exported");
    assert_eq!(size("out/tt-gru/model.safetensors"), whole);
    done("export out/tt-gru --to out/small");
    done("export out/tt-gru --to out/small --weights int8 --force");
    assert!(size("out/small/model.safetensors") < whole);
    done("export out/tt-gru --to out/model.onnx");
    let graph = size("out/model.onnx");
    refused("export out/tt-gru --to out/model.onnx --weights f16", "model.onnx is there already: --force");
    assert_eq!(size("out/model.onnx"), graph);
    done("export out/tt-gru --to out/model.onnx --weights f16 --force");
    assert!(size("out/model.onnx") < graph);

    // A page needs no more of the runtime than that it is there.
    let dist = "data/page/node_modules/onnxruntime-web/dist";
    fs::create_dir_all(fake.path(dist)).unwrap();
    for file in ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"] {
        fake.write(&format!("{dist}/{file}"), b"");
    }
    refused(
        "export out/tt-mlp --page out/page",
        "tt-mlp has no page: it looks at all frames of a clip at once",
    );
    assert!(!fake.path("out/page").exists(), "a page that was refused left something");
    done("export out/tt-gru --page out/page");
    refused("export out/tt-gru --page out/page", "holds a page already: --force replaces it");
    done("export out/tt-gru --page out/page --weights f16 --force");
    refused("export out/page/model --page out/page --force", "is the model that is exported");
}

/// What the project says can be tried on a fresh clone.
#[test]
fn the_committed_model_is_of_the_sample() {
    let folder = repo().join("results/models/ucf11-sample-tt-gru");
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["model"], &config["trained"]["data_kind"]), (&"tt-gru".into(), &"sample".into()));
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(card.contains("drawn by a program; no camera took one"), "{card}");
    assert!(fs::metadata(folder.join("model.safetensors")).unwrap().len() < 1_000_000);
}
