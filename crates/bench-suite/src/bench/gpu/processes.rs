//! Every part in a process of its own: an error that costs a process its card costs one row, not those that follow.

use super::tables::Tables;
use super::{GpuOptions, Part};
use crate::device::CardUse;
use crate::places::write;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a part's process says, a line of JSON each on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// The names of all cases, before the first one.
    Cases(Vec<String>),
    /// A case is done, or could not be run.
    Done(Done),
}

/// What became of a case.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) case: usize,
    /// Its rows.
    pub(super) tables: Tables,
    /// What failed in it.
    pub(super) failed: Vec<String>,
    /// Whether the card does not answer any more: the process ends.
    pub(super) lost: bool,
    /// The process's use of the card so far.
    pub(super) card: Option<CardUse>,
}

impl Message {
    pub(super) fn send(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(self)?)?;
        Ok(out.flush()?)
    }
}

/// What all parts found so far.
#[derive(Debug, Default)]
struct Found {
    tables: Tables,
    failed: Vec<String>,
    card: Option<CardUse>,
}

impl Found {
    fn add(&mut self, done: Done) {
        self.tables.append(&done.tables);
        self.failed.extend(done.failed);
    }

    /// A case, or a whole part, that ended with its process.
    fn lost(&mut self, part: Part, case: &str, reason: &str) -> Result<()> {
        tracing::error!("{} {case}: {reason}", part.name());
        self.failed.push(format!("{} {case}: {reason}", part.name()));
        self.tables.not_run(part, case, reason)
    }

    /// The largest memory and the energy of all processes together.
    fn add_card(&mut self, card: Option<CardUse>) {
        let Some(card) = card else { return };
        let Some(so_far) = &mut self.card else {
            self.card = Some(card);
            return;
        };
        so_far.peak_bytes = so_far.peak_bytes.max(card.peak_bytes);
        so_far.energy_j = so_far.energy_j.zip(card.energy_j).map(|(a, b)| a + b);
    }
}

/// Runs the parts one after another and writes what they find as it comes.
pub(super) fn run_all(options: &GpuOptions) -> Result<()> {
    let mut found = Found::default();
    for part in options.sections.iter().flat_map(|section| section.parts()) {
        let started = Instant::now();
        let start = |from: usize| -> Result<Command> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(std::env::args_os().skip(1));
            command.args(["--part", part.name(), "--from", &from.to_string()]);
            Ok(command)
        };
        let limit = Duration::from_secs(options.case_limit);
        run_part(*part, &start, limit, &mut found, &|found| found.tables.save(&options.out))?;
        tracing::info!("{}: {:.0} s", part.name(), started.elapsed().as_secs_f64());
    }
    if let Some(card) = &found.card {
        write(&options.out.join("card.json"), &serde_json::to_vec_pretty(card)?)?;
    }
    let failed = &found.failed;
    ensure!(failed.is_empty(), "{} failed: {}", failed.len(), failed.join("; "));
    Ok(())
}

/// Runs a part; where its process ends early, or is killed since a case takes longer than `limit`, another one goes on with
/// the case after.
fn run_part(
    part: Part,
    start: &dyn Fn(usize) -> Result<Command>,
    limit: Duration,
    found: &mut Found,
    save: &dyn Fn(&Found) -> Result<()>,
) -> Result<()> {
    let mut next = 0;
    loop {
        let mut child = start(next)?.stdout(Stdio::piped()).spawn().context("failed to start a part")?;
        let output = lines(child.stdout.take().context("a part's output")?);
        let heard = listen(&output, limit, &mut next, found, save);
        let has_ended = heard.as_ref().is_ok_and(|heard| !heard.silent);
        if !has_ended {
            child.kill()?;
        }
        let status = child.wait()?;
        let heard = heard.with_context(|| format!("the output of {}", part.name()))?;
        let end = if heard.silent {
            format!("not done after {} s; its process was killed", limit.as_secs())
        } else {
            format!("its process ended ({status})")
        };
        let Some(cases) = heard.cases else {
            let which =
                if next == 0 { "all cases".to_owned() } else { format!("cases from {} on", next + 1) };
            found.lost(part, &which, &format!("{end}, before it named them"))?;
            return save(found);
        };
        if next < cases.len() && !heard.lost {
            found.lost(part, &cases[next], &end)?;
            save(found)?;
            next += 1;
        }
        if next >= cases.len() {
            return Ok(());
        }
    }
}

/// What a part's process said.
#[derive(Default)]
struct Heard {
    cases: Option<Vec<String>>,
    lost: bool,
    silent: bool,
}

/// A process's lines as they come, read by a thread of its own: a kernel that hangs must not hang its listener.
fn lines(output: impl Read + Send + 'static) -> Receiver<std::io::Result<String>> {
    let (sender, lines) = channel();
    std::thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| sender.send(line)));
    lines
}

/// Takes the messages of a process until it ends or says nothing of a case for `limit`; `next` is the case that it did not do.
fn listen(
    lines: &Receiver<std::io::Result<String>>,
    limit: Duration,
    next: &mut usize,
    found: &mut Found,
    save: &dyn Fn(&Found) -> Result<()>,
) -> Result<Heard> {
    let (mut heard, mut card, mut last) = (Heard::default(), None, Instant::now());
    loop {
        // What a library prints is no sign of a case.
        let line = match lines.recv_timeout(limit.saturating_sub(last.elapsed())) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                heard.silent = true;
                break;
            }
        };
        match serde_json::from_str(&line) {
            // Of a library that prints to standard output.
            Err(_) => tracing::info!("{line}"),
            Ok(Message::Cases(names)) => (heard.cases, last) = (Some(names), Instant::now()),
            Ok(Message::Done(mut done)) => {
                last = Instant::now();
                *next = done.case + 1;
                heard.lost = done.lost;
                card = done.card.take().or(card);
                found.add(done);
                save(found)?;
            }
        }
    }
    found.add_card(card);
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    fn message(message: &Message) -> String {
        serde_json::to_string(message).unwrap()
    }

    fn done(case: usize, lost: bool) -> String {
        let mut tables = Tables::default();
        tables.not_run(Part::Recurrence, &format!("case {case}"), "told").unwrap();
        let card = CardUse {
            kind: "cuda".into(),
            name: "a card".into(),
            precision: crate::device::Precision::F32,
            resident: false,
            peak_bytes: Some(100 - case as u64),
            energy_j: Some(2.0),
        };
        message(&Message::Done(Done { case, tables, failed: Vec::new(), lost, card: Some(card) }))
    }

    /// Four cases: the first and the last are done, the second ends the card, the third ends its process.
    #[test]
    fn a_process_that_ends_costs_one_row() {
        let cases = message(&Message::Cases((0..4).map(|case| format!("case {case}")).collect()));
        let started = std::cell::RefCell::new(Vec::new());
        let start = |from: usize| {
            started.borrow_mut().push(from);
            let (says, end) = match from {
                0 => (vec![cases.clone(), done(0, false), done(1, true)], "exit 1"),
                2 => (vec![cases.clone()], "kill -9 $$"),
                _ => (vec![cases.clone(), done(3, false)], "exit 0"),
            };
            let script = format!("cat <<'END'\na library's word\n{}\nEND\n{end}", says.join("\n"));
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            Ok(command)
        };
        let mut found = Found::default();
        let saved = std::cell::Cell::new(0);
        let save = |_: &Found| {
            saved.set(saved.get() + 1);
            Ok(())
        };
        run_part(Part::Recurrence, &start, LONG, &mut found, &save).unwrap();
        assert_eq!(*started.borrow(), [0, 2, 3]);
        assert_eq!(saved.get(), 4);
        let text = found.tables.text("checks.csv");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("kernel,case,"), "{text}");
        for (case, line) in lines[1..].iter().enumerate() {
            assert!(line.contains(&format!("case {case}: ")) && line.ends_with(",false"), "{line}");
        }
        assert!(lines.len() == 5 && lines[3].contains("signal: 9"), "{text}");
        assert_eq!(found.failed.len(), 1, "{:?}", found.failed);
        let card = found.card.unwrap();
        assert_eq!((card.peak_bytes, card.energy_j), (Some(99), Some(4.0)));
    }

    #[test]
    fn a_process_without_cases_costs_its_part_alone() {
        let start = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "exit 3"]);
            Ok(command)
        };
        let mut found = Found::default();
        run_part(Part::Layer, &start, LONG, &mut found, &|_| Ok(())).unwrap();
        assert!(found.failed[0].starts_with("layer all cases: its process ended"), "{:?}", found.failed);
        assert!(found.tables.text("gpu.csv").contains("exit status: 3"));
    }

    /// The first case hangs, and so does its child, which has the pipe and prints to it; the second is done.
    #[test]
    fn a_process_that_hangs_costs_one_row() {
        let cases = message(&Message::Cases(vec!["case 0".into(), "case 1".into()]));
        let start = |from: usize| {
            let script = match from {
                0 => format!("echo '{cases}'; (while sleep 1; do echo noise; done) & sleep 60"),
                _ => format!("cat <<'END'\n{cases}\n{}\nEND", done(1, false)),
            };
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            Ok(command)
        };
        let (mut found, started) = (Found::default(), Instant::now());
        run_part(Part::Epoch, &start, Duration::from_secs(5), &mut found, &|_| Ok(())).unwrap();
        assert_eq!(found.failed, ["epoch case 0: not done after 5 s; its process was killed"]);
        assert!(started.elapsed() < Duration::from_secs(45), "it was not killed");
        assert!(found.card.is_some());
    }
}
