//! The four layers of a specification: read, merged, overridden, and checked key by key.

use super::error::{Result, SpecError, nearest};
use super::fields::{Overrides, Spec};
use super::names::MODEL_NAMES;
use std::path::Path;
use toml::{Table, Value};

pub(super) fn read(path: &Path, shown: &str) -> Result<Table> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SpecError::Read { path: shown.to_owned(), source })?;
    table(&text, shown)
}

/// Parses TOML and gives renamed keys their current names.
pub(super) fn table(text: &str, shown: &str) -> Result<Table> {
    let parsed = text.parse::<Table>();
    let mut table =
        parsed.map_err(|e| SpecError::Parse { path: shown.to_owned(), message: e.to_string() })?;
    rename_keys(&mut table);
    Ok(table)
}

/// `model.backend` was called `model.rung` until November 2026; files of that time still say so.
fn rename_keys(table: &mut Table) {
    for (name, value) in table.iter_mut() {
        let Value::Table(inner) = value else { continue };
        if name == "model"
            && !inner.contains_key("backend")
            && let Some(value) = inner.remove("rung")
        {
            inner.insert("backend".to_owned(), value);
        }
        rename_keys(inner);
    }
}

/// Takes a table out, an empty one where there is none.
pub(super) fn take_table(table: &mut Table, key: &str, path: &str) -> Result<Table> {
    table.remove(key).map_or_else(|| Ok(Table::new()), |value| as_table(key, value, path))
}

/// The table that a key of the file `path` is to hold.
pub(super) fn as_table(key: &str, value: Value, path: &str) -> Result<Table> {
    match value {
        Value::Table(table) => Ok(table),
        other => Err(SpecError::Parse {
            path: path.to_owned(),
            message: format!("{key} is a table, not of type {}", other.type_str()),
        }),
    }
}

/// Lays `over` on `base`, table by table.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

pub(super) fn apply_sets(table: &mut Table, overrides: &Overrides) -> Result<()> {
    let list = |items: &[u64]| Value::Array(items.iter().map(|i| Value::Integer(*i as i64)).collect());
    // Keys that a file may leave out have their type from the fields.
    let all = complete();
    for pair in &overrides.set {
        let bad = |message: &str| SpecError::Parse { path: format!("--set {pair}"), message: message.into() };
        let (key, text) = pair.split_once('=').ok_or_else(|| bad("expected key=value"))?;
        match key.trim() {
            "model.rung" => return Err(bad("the key is now called model.backend")),
            // They choose files that lie below what is set here.
            "recipe" => return Err(bad("--recipe takes another recipe, with its settings")),
            "name" | "data.dataset" => {
                return Err(bad("it belongs to the experiment's file: write another one"));
            }
            _ => {}
        }
        let value = format!("v = {text}")
            .parse::<Table>()
            .ok()
            // What follows on a second line is no part of the value.
            .and_then(|mut parsed| parsed.remove("v").filter(|_| parsed.is_empty()))
            .unwrap_or_else(|| Value::String(text.to_owned()));
        // A table that is not there is more likely another key, misspelt: the nearest is named below.
        let left_out = || misfit(&all, key.trim(), &value).filter(|expected| *expected != "table");
        if let Some(expected) = misfit(table, key.trim(), &value).or_else(left_out) {
            return Err(bad(&format!(
                "{} takes a value of type {expected}, not {}",
                key.trim(),
                value.type_str()
            )));
        }
        set_path(table, key.trim(), value).ok_or_else(|| bad("the key names no table entry"))?;
    }
    if !overrides.models.is_empty() {
        let names = overrides.models.iter().map(|name| Value::String(name.clone())).collect();
        set_path(table, "model.names", Value::Array(names));
    }
    if !overrides.seeds.is_empty() {
        set_path(table, "train.seeds", list(&overrides.seeds));
    }
    if let Some(protocol) = &overrides.protocol {
        set_path(table, "protocol.kind", Value::String(protocol.clone()));
    }
    for model in MODEL_NAMES {
        if !overrides.folds.is_empty() {
            let folds: Vec<u64> = overrides.folds.iter().map(|fold| *fold as u64).collect();
            set_path(table, &format!("protocol.run_folds.{model}"), list(&folds));
        }
        if let Some(epochs) = overrides.epochs {
            set_path(table, &format!("train.epochs.{model}"), Value::Integer(epochs as i64));
        }
    }
    Ok(())
}

/// The type that a key has already, where a value is of another.
fn misfit(table: &Table, path: &str, value: &Value) -> Option<&'static str> {
    let mut keys = path.split('.');
    let first = table.get(keys.next()?)?;
    let old = keys.try_fold(first, |value, key| value.get(key))?;
    let is_number = |value: &Value| value.is_integer() || value.is_float();
    let fits = old.same_type(value) || (is_number(old) && is_number(value));
    (!fits).then(|| old.type_str())
}

fn set_path(table: &mut Table, path: &str, value: Value) -> Option<()> {
    match path.split_once('.') {
        None => {
            // Accept an integer for a number that is a float elsewhere.
            let value = match (table.get(path), value) {
                (Some(Value::Float(_)), Value::Integer(whole)) => Value::Float(whole as f64),
                (_, value) => value,
            };
            table.insert(path.to_owned(), value);
            Some(())
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            set_path(inner.as_table_mut()?, rest, value)
        }
    }
}

/// A complete specification written out.
fn complete() -> Table {
    Table::try_from(Spec::example()).unwrap_or_default()
}

/// Names the first key that no field has.
pub(super) fn check_keys(table: &Table, path: &str) -> Result<()> {
    let (mut valid, mut found) = (Vec::new(), Vec::new());
    flatten(&complete(), "", &mut valid);
    flatten(table, "", &mut found);
    match found.into_iter().find(|key| !valid.contains(key)) {
        Some(key) => {
            let nearest = nearest(&key, valid.iter().map(String::as_str));
            Err(SpecError::UnknownKey { path: path.to_owned(), key, nearest })
        }
        None => Ok(()),
    }
}

fn flatten(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(inner, &path, keys),
            _ => keys.push(path),
        }
    }
}

/// The specification of a table from the file `path`, in which the command line set `sets`.
pub(super) fn parse(table: Table, path: &str, sets: &[String]) -> Result<Spec> {
    // The flag that set a key, else the file. Of a list, the place is named behind the key.
    let source = |key: &str| {
        let is_at_fault = |pair: &&String| pair.split('=').next().map(str::trim) == key.split('[').next();
        let set = sets.iter().rfind(is_at_fault).map(|pair| format!("--set {pair}"));
        set.unwrap_or_else(|| path.to_owned())
    };
    check_keys(&table, path).map_err(|error| match error {
        SpecError::UnknownKey { key, nearest, .. } => {
            SpecError::UnknownKey { path: source(&key), key, nearest }
        }
        other => other,
    })?;
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let key = error.path().to_string();
        SpecError::Parse { path: source(&key), message: format!("{key}: {}", error.inner().message()) }
    })
}
