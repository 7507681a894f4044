//! From the flat vectors that are trained to tensors with names and shapes, and back.

use super::{Config, Weights};
use crate::checkpoint::is_finite;
use crate::recurrence::Cell;
use crate::{Error, Result};
use candle_core::Tensor;
use std::collections::HashMap;

/// How a tensor of a folder lies in a checkpoint.
#[derive(Debug)]
struct Part {
    /// Name in the folder.
    name: String,
    shape: Vec<usize>,
    /// Name of the parameter whose values it is a run of.
    parameter: &'static str,
}

/// What is said of weights that are no numbers to compute with.
const NOT_FINITE: &str = "holds NaN or infinity: its training diverged, or the file is damaged";

/// Every tensor of a folder. The runs of a parameter are in order and are all of it.
fn parts(config: &Config) -> Result<Vec<Part>> {
    let part = |name: String, shape: &[usize], parameter| Part { name, shape: shape.to_vec(), parameter };
    let mut parts = Vec::new();
    let (hidden, classes) = (config.hidden(), config.classes.len());
    let width = config.cell()?.map_or(1, Cell::gates) * hidden;
    match config.train()? {
        None => parts.push(part("input.kernel".into(), &[config.input_features(), width], "input.kernel")),
        Some((shape, trains)) => {
            for train in 0..trains {
                let prefix = if trains == 1 { "input".to_owned() } else { format!("input.gate.{train}") };
                // The last core comes first in the flat vector.
                for k in (0..shape.order()).rev() {
                    let (m, n) = (shape.input_modes()[k], shape.output_mode(k));
                    let core = [m, shape.ranks()[k + 1], shape.ranks()[k], n];
                    parts.push(part(format!("{prefix}.core.{}", k + 1), &core, "input.cores"));
                }
            }
        }
    }
    if config.steps.is_some() {
        parts.push(part("recurrent.kernel".into(), &[hidden, width], "recurrent"));
        parts.push(part("recurrent.bias".into(), &[width], "recurrent"));
    } else {
        parts.push(part("input.bias".into(), &[hidden], "input.bias"));
    }
    parts.push(part("classifier.kernel".into(), &[hidden, classes], "classifier.kernel"));
    parts.push(part("classifier.bias".into(), &[classes], "classifier.bias"));
    Ok(parts)
}

/// The tensors of a folder from the parameters of a checkpoint.
///
/// # Errors
/// [`Error::Unsupported`] naming a parameter that is missing, of another size, or not finite.
pub fn from_checkpoint(config: &Config, parameters: &Weights) -> Result<Vec<(String, Tensor)>> {
    let parts = parts(config)?;
    let mut starts: HashMap<&str, usize> = HashMap::new();
    let mut named = Vec::with_capacity(parts.len());
    for part in &parts {
        let fails = |what| Error::Unsupported(format!("parameter {:?} {what}", part.parameter));
        let flat = parameters.get(part.parameter).ok_or_else(|| fails("is missing"))?.flatten_all()?;
        let (start, length) = (starts.entry(part.parameter).or_default(), part.shape.iter().product());
        if *start + length > flat.elem_count() {
            return Err(fails("has too few values"));
        }
        if !is_finite(&flat)? {
            return Err(fails(NOT_FINITE));
        }
        named.push((part.name.clone(), flat.narrow(0, *start, length)?.reshape(part.shape.as_slice())?));
        *start += length;
    }
    for part in &parts {
        let all = parameters.get(part.parameter).map_or(0, Tensor::elem_count);
        if starts.get(part.parameter) != Some(&all) {
            return Err(Error::Unsupported(format!("parameter {:?} has too many values", part.parameter)));
        }
    }
    Ok(named)
}

/// The parameters of a checkpoint from the tensors of a folder; the reason names what is missing, of another shape, not
/// finite, or not known.
pub(super) fn to_checkpoint(config: &Config, named: &Weights) -> std::result::Result<Weights, String> {
    let parts = parts(config).map_err(|error| error.to_string())?;
    let mut runs: HashMap<&str, Vec<Tensor>> = HashMap::new();
    for part in &parts {
        let tensor = named.get(&part.name).ok_or_else(|| format!("tensor {:?} is missing", part.name))?;
        if tensor.dims() != part.shape {
            let (found, expected) = (tensor.dims(), &part.shape);
            return Err(format!(
                "tensor {:?} is {found:?}, the configuration asks for {expected:?}",
                part.name
            ));
        }
        if !is_finite(tensor).map_err(|error| error.to_string())? {
            return Err(format!("tensor {:?} {NOT_FINITE}", part.name));
        }
        let run = if part.parameter.starts_with("input.cores") || part.parameter == "recurrent" {
            tensor.flatten_all().map_err(|error| error.to_string())?
        } else {
            tensor.clone()
        };
        runs.entry(part.parameter).or_default().push(run);
    }
    let mut unknown: Vec<&String> =
        named.keys().filter(|name| parts.iter().all(|p| p.name != **name)).collect();
    unknown.sort();
    if let Some(name) = unknown.first() {
        return Err(format!("tensor {name:?} belongs to no part of {}", config.model));
    }
    let joined = |(name, runs): (&str, Vec<Tensor>)| Ok((name.to_owned(), Tensor::cat(&runs, 0)?));
    runs.into_iter().map(joined).collect::<Result<_>>().map_err(|error: Error| error.to_string())
}
