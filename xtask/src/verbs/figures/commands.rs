//! `docs/commands.md`: every verb and every flag, from the command line itself.

use std::fmt::Write as _;

use anyhow::Result;
use bench_suite::results::write_atomic;
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::Cli;
use crate::repo::Repo;

const PAGE: &str = "docs/commands.md";

/// What stands above the verbs.
const INTRODUCTION: &str = "\
# Commands

Every verb of `cargo xtask` with its arguments. This page is written by `cargo xtask figures` from the command line's \
own help; `cargo xtask help VERB` prints the same.
";

/// Writes the page anew, where there is one.
pub(crate) fn write(repo: &Repo) -> Result<()> {
    let path = repo.path(PAGE);
    // A tree of records alone has no pages around them.
    if path.is_file() { write_atomic(&path, page()?.as_bytes()) } else { Ok(()) }
}

fn page() -> Result<String> {
    let cli = Cli::command();
    let mut text = INTRODUCTION.to_owned();
    text += "\n| verb | what it does |\n| --- | --- |\n";
    for verb in verbs(&cli) {
        let name = verb.get_name();
        writeln!(text, "| [`{name}`](#{name}) | {} |", about(verb))?;
    }
    for verb in verbs(&cli) {
        section(&mut text, verb, verb.get_name(), 2)?;
    }
    Ok(text)
}

/// The verbs below a command that are for people.
fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

fn section(text: &mut String, verb: &Command, name: &str, level: usize) -> Result<()> {
    writeln!(text, "\n{} {name}\n\n{}.", "#".repeat(level), about(verb))?;
    let examples = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples: Vec<&str> =
        examples.lines().skip_while(|line| line.starts_with("Examples")).map(str::trim).collect();
    if !examples.is_empty() {
        writeln!(text, "\n```sh\n{}\n```", examples.join("\n"))?;
    }
    let arguments: Vec<&Arg> = verb.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | meaning |\n| --- | --- |\n");
    }
    for argument in arguments {
        writeln!(text, "| `{}` | {} |", cell(&shape(argument)), plain(&meaning(argument)))?;
    }
    for below in verbs(verb) {
        section(text, below, &format!("{name} {}", below.get_name()), level + 1)?;
    }
    Ok(())
}

fn about(command: &Command) -> String {
    plain(&command.get_about().map(ToString::to_string).unwrap_or_default())
}

/// How an argument is written: `<RUN>`, `--data DIR`, `--quiet`.
fn shape(argument: &Arg) -> String {
    let values: Vec<&str> =
        argument.get_value_names().unwrap_or_default().iter().map(clap::builder::Str::as_str).collect();
    let values = values.join(" ");
    match argument.get_long() {
        None if argument.is_required_set() => format!("<{values}>"),
        None => format!("[{values}]"),
        Some(long) if takes_value(argument) => format!("--{long} {values}"),
        Some(long) => format!("--{long}"),
    }
}

fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// What an argument is for, its default and its possible values.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    if !takes_value(argument) {
        return help;
    }
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let defaults = if argument.is_hide_default_value_set() { Vec::new() } else { defaults.collect() };
    let possible = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let listed = |what: &str, values: Vec<String>| {
        if values.is_empty() { String::new() } else { format!(" [{what}: {}]", values.join(", ")) }
    };
    help + &listed("default", defaults) + &listed("possible", possible)
}

/// Text in a cell of a table, with nothing that Markdown would take for a tag.
fn plain(text: &str) -> String {
    cell(text).replace('<', "\\<")
}

/// Text in a cell of a table: one line, and no end of the cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_command_line_says() {
        let repo = Repo::find().unwrap();
        let committed = std::fs::read_to_string(repo.path(PAGE)).unwrap();
        assert_eq!(page().unwrap(), committed, "run cargo xtask figures");
    }

    #[test]
    fn every_verb_and_every_flag_is_on_the_page() {
        fn check(page: &str, command: &Command) {
            for argument in command.get_arguments().filter_map(Arg::get_long) {
                assert!(page.contains(&format!("`--{argument}")), "{} --{argument}", command.get_name());
            }
            verbs(command).for_each(|verb| check(page, verb));
        }
        let page = page().unwrap();
        check(&page, &Cli::command());
        for name in ["## reproduce\n", "### stress resume\n", "### bench kernels\n", "| `<RUN\\|CLIP>` |"] {
            assert!(page.contains(name), "{name}");
        }
        assert!(!page.contains("cell-task"), "nobody types it");
    }
}
