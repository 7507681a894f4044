//! From files and the command line to a specification.

use super::error::{Result, SpecError, nearest_or};
use super::fields::{Overrides, Spec};
use super::layers::{apply_sets, as_table, check_keys, merge, parse, read, table, take_table};
use std::fs::DirEntry;
use std::path::Path;
use toml::{Table, Value};

impl Spec {
    /// Loads `experiments/<name>.toml` below `root` with its recipe and the command line's changes.
    ///
    /// # Errors
    /// Names the file and key at fault and what would be valid.
    pub fn load(root: &Path, name: &str, overrides: &Overrides) -> Result<Self> {
        let folder = root.join("experiments");
        nearest_or("experiment", name, &stems(&folder)?)?;
        let path = format!("experiments/{name}.toml");
        let mut table = read(&root.join(&path), &path)?;
        let own = match table.get("recipe") {
            None => "scaled".to_owned(),
            Some(Value::String(own)) => own.clone(),
            Some(other) => {
                let message = format!("recipe = {other}: the name of a recipe in quotes is expected");
                return Err(SpecError::Parse { path, message });
            }
        };
        let recipe = overrides.recipe.clone().unwrap_or(own);
        let known = stems(&folder.join("recipes"))?;
        nearest_or("recipe", &recipe, &known)?;
        let mut own_of_recipe = Table::new();
        for (of, settings) in take_table(&mut table, "recipe_overrides", &path)? {
            nearest_or("recipe", &of, &known)?;
            let settings = as_table(&of, settings, &path)?;
            check_keys(&settings, &path)?;
            if of == recipe {
                own_of_recipe = settings;
            }
        }
        let recipe_path = format!("experiments/recipes/{recipe}.toml");
        let mut merged = read(&root.join(&recipe_path), &recipe_path)?;
        let mut by_dataset = take_table(&mut merged, "dataset", &recipe_path)?;
        let dataset =
            table.get("data").and_then(|d| d.get("dataset")).and_then(Value::as_str).unwrap_or_default();
        merge(&mut merged, take_table(&mut by_dataset, dataset, &recipe_path)?);
        table.insert("name".into(), name.into());
        table.insert("recipe".into(), recipe.as_str().into());
        merge(&mut merged, table);
        merge(&mut merged, own_of_recipe);
        apply_sets(&mut merged, overrides)?;
        let spec = parse(merged, &path, &overrides.set)?;
        spec.check()?;
        Ok(spec)
    }

    /// The specification as TOML, every key written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Reads [`Spec::to_toml`] back.
    ///
    /// # Errors
    /// As [`Spec::load`].
    pub fn from_toml(text: &str, path: &str) -> Result<Self> {
        let spec = parse(table(text, path)?, path, &[])?;
        spec.check()?;
        Ok(spec)
    }
}

/// File stems of the TOML files in a folder, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn stems(folder: &Path) -> Result<Vec<String>> {
    let failed = |source| SpecError::Read { path: folder.display().to_string(), source };
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let stem = |entry: &DirEntry| {
        let path = entry.path();
        (path.extension()? == "toml").then(|| path.file_stem()?.to_str().map(str::to_owned))?
    };
    let mut names: Vec<String> = entries.map_err(failed)?.iter().filter_map(stem).collect();
    names.sort();
    Ok(names)
}
