//! A search with a fake engine: what is asked of it, and when.

use std::fs;

use crate::fake::{Fake, script, stderr};

const SEARCH: &str = "experiment = \"ucf11-sample\"\nprotocol = \"clips\"\nmodels = [\"gru\"]\nfolds = [0]\nseed = 0\n\
                      rung = [{ draws = 3, epochs = 2 }, { draws = 1, epochs = 4 }]\n\
                      [[setting]]\nkeys = [\"train.lr\"]\nlog = [1e-4, 1e-2]\n";

#[test]
fn a_fold_is_scored_when_its_choice_is_written_and_once() {
    let fake = Fake::new();
    fs::remove_dir_all(fake.path("experiments/tune")).unwrap();
    fs::create_dir_all(fake.path("experiments/tune")).unwrap();
    fake.write("experiments/tune/small.toml", SEARCH.as_bytes());
    fake.replan(|plan| plan.cells.truncate(1));
    // Beside every call, the lines of choices that are on disk then.
    let engine = fake.read("target/release/bench-suite");
    let counted = "#!/bin/sh\nchosen=$(cat results/tuning/small/*/choices.csv 2>/dev/null | grep -c gru)\n\
                   echo choices: $chosen >> \"$FAKE/calls\"";
    script(&fake.path("target/release/bench-suite"), &engine.replacen("#!/bin/sh", counted, 1));
    let output = fake.xtask("tune small");
    assert!(output.status.success(), "{}", stderr(&output));
    let calls = fake.read("fake/calls");
    let lines: Vec<&str> = calls.lines().collect();
    let asked: Vec<(&str, &str)> = lines.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let (last, before): (Vec<_>, Vec<_>) = asked
        .iter()
        .filter(|(_, call)| call.starts_with("plan ") || call.starts_with("prepare "))
        .partition::<Vec<&(&str, &str)>, _>(|(_, call)| !call.contains("protocol.inner=true"));
    assert_eq!(last.len(), 1, "one plan of the test fold: {calls}");
    assert_eq!(last[0].0, "choices: 1", "{calls}");
    assert!(before.iter().all(|(choices, _)| *choices == "choices: 0"), "{calls}");
    let plans = before.iter().filter(|(_, call)| call.starts_with("plan ")).count();
    assert_eq!(plans, 1 + 3 + 1, "the data, three draws, the best of them: {calls}");
    assert!(last[0].1.contains("--epochs 1") && last[0].1.contains("train.settled=0.0"), "{calls}");
    let folder = fs::read_dir(fake.path("results/tuning/small")).unwrap().next().unwrap().unwrap().path();
    for name in
        ["trials.csv", "choices.csv", "finals.csv", "tuning.csv", "tuning.md", "tuning.svg", "run.toml"]
    {
        assert!(folder.join(name).is_file(), "{name}");
    }
    // The same again keeps every cell, and writes the same tables.
    let cells = |calls: &str| calls.lines().filter(|line| line.starts_with("cell ")).count();
    let trained = cells(&calls);
    assert!(trained > 0, "{calls}");
    let tables = ["trials.csv", "choices.csv", "finals.csv", "tuning.csv"];
    let read = || tables.map(|name| fs::read_to_string(folder.join(name)).unwrap());
    let first = read();
    let again = fake.xtask("tune small");
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(cells(&fake.read("fake/calls")), trained, "nothing is trained twice");
    assert_eq!(read(), first);
    let text = stderr(&fake.xtask("tune small --models lstm"));
    assert!(text.contains("the search has no model \"lstm\"; it has gru"), "{text}");
}
