//! Cells computed elsewhere, without a cluster: what is missing is said, and any shell can compute it.

use std::process::Command;

use crate::fake::{Fake, stderr};

#[test]
fn lines_of_the_plan_are_commands_that_finish_the_run() {
    let fake = Fake::new();
    let planned = fake.xtask("plan ucf11");
    let lines = String::from_utf8(planned.stdout.clone()).unwrap();
    assert_eq!(lines.lines().count(), 4, "{}", stderr(&planned));
    let status = fake.xtask("status ucf11-sample");
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.starts_with("ucf11-sample: 4 cells: 4 not started\n"), "{text}{}", stderr(&status));

    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("FAKE", fake.path("fake")).current_dir(fake.path(""));
        assert!(shell.status().unwrap().success(), "{script}");
    };
    let mut lines = lines.lines();
    let last = lines.next_back().unwrap();
    lines.for_each(shell);
    let collect = fake.xtask("collect ucf11-sample");
    let text = stderr(&collect);
    assert_eq!(collect.status.code(), Some(1), "{text}");
    assert!(text.contains("1 of 4 cells are missing:\ngru.clips.scaled.f1.s0"), "{text}");
    assert_eq!(
        fake.read("results/ucf11-sample/runs/scaled-cpu-0123abcd/folds.csv").lines().count(),
        4,
        "what is there is written"
    );

    assert!(fake.xtask("plan ucf11").stdout.ends_with(format!("{last}\n").as_bytes()));
    shell(last);
    assert!(fake.xtask("collect ucf11-sample").status.success());
    assert_eq!(fake.read("results/ucf11-sample/runs/scaled-cpu-0123abcd/folds.csv").lines().count(), 5);
    assert!(fake.xtask("plan ucf11").stdout.is_empty(), "nothing is missing");
    let status = fake.xtask("status ucf11-sample");
    assert_eq!(String::from_utf8_lossy(&status.stdout), "ucf11-sample: 4 cells: 4 done\n");
}
