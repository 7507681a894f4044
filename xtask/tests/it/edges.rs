//! The law of the house: dependencies point one way, and xtask stays light.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::fake::repo;

/// Who may name whom. `bench-suite` names tt-core as well, which lies the same way.
const ALLOWED: [(&str, &str); 7] = [
    ("tt-rnn", "tt-core"),
    ("bench-suite", "tt-core"),
    ("bench-suite", "tt-rnn"),
    ("bench-suite", "video-data"),
    ("xtask", "bench-suite"),
    ("ttrnn-python", "tt-core"),
    ("ttrnn-python", "tt-rnn"),
];

fn cargo(args: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(args).current_dir(repo()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn crates_depend_one_way() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]))
            .unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        BTreeSet::from(["bench-suite", "tt-core", "tt-rnn", "ttrnn-python", "video-data", "xtask"])
    );
    for package in packages {
        let from = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            if names.contains(to) {
                assert!(ALLOWED.contains(&(from, to)), "{from} must not depend on {to}");
            }
            if (from, to) == ("xtask", "bench-suite") {
                assert_eq!(dependency["uses_default_features"], Value::Bool(false), "xtask links no engine");
                assert_eq!(dependency["features"], Value::from(vec!["report"]), "xtask links no engine");
            }
        }
    }
}

#[test]
fn xtask_links_neither_candle_nor_ffmpeg() {
    let tree =
        cargo(&["tree", "--package", "xtask", "--edges", "normal,build", "--prefix", "none", "--offline"]);
    for name in ["candle", "ffmpeg", "gemm", "tt-core", "rayon", "tar ", "zip "] {
        assert!(!tree.lines().any(|line| line.starts_with(name)), "{name} in\n{tree}");
    }
}

#[test]
fn the_catalog_of_clips_links_neither_candle_nor_ffmpeg() {
    let features = ["--no-default-features", "--features", "catalog", "--offline"];
    let tree = ["tree", "--package", "bench-suite", "--edges", "normal,build", "--prefix", "none"];
    let tree = cargo(&[&tree[..], &features[..]].concat());
    for name in ["candle", "ffmpeg", "gemm", "tt-core", "tt-rnn"] {
        assert!(!tree.lines().any(|line| line.starts_with(name)), "{name} in\n{tree}");
    }
}
