//! From the flat vectors that are trained to tensors with names and shapes, and back.

use super::{Config, Weights};
use crate::checkpoint::is_finite;
use crate::models::multiplied_out;
use crate::projection::Matrix;
use crate::recurrence::Cell;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use tt_core::apply::Affine;

/// How a tensor of a folder lies in a checkpoint.
#[derive(Debug)]
struct Part {
    /// Name in the folder.
    name: String,
    shape: Vec<usize>,
    /// Name of the parameter whose values it is a run of.
    parameter: String,
    /// Whether that parameter is flat.
    run: bool,
}

/// What is said of weights that are no numbers to compute with.
const NOT_FINITE: &str = "holds NaN or infinity: its training diverged, or the file is damaged";

/// Every tensor of a folder. The runs of a parameter are in order and are all of it.
fn parts(config: &Config) -> Result<Vec<Part>> {
    let part = |name: String, shape: Vec<usize>, parameter: String, run| Part { name, shape, parameter, run };
    let alone = |name: String, shape: Vec<usize>| part(name.clone(), shape, name, false);
    let mut parts = Vec::new();
    let (hidden, classes) = (config.hidden(), config.classes.len());
    let width = config.cell()?.map_or(1, Cell::gates) * hidden;
    let (rows, states) = (config.row_matrices()?, config.state_matrix()?);
    for place in config.places() {
        let (matrix, sides) = rows[place.layer];
        let place = place.name();
        for (name, shape) in matrix.tensors(sides)? {
            let factorized = *matrix != Matrix::Dense;
            let parameter = if factorized { "input.cores" } else { "input.kernel" };
            parts.push(part(
                format!("{place}input.{name}"),
                shape,
                format!("{place}{parameter}"),
                factorized,
            ));
        }
        match states {
            _ if config.steps.is_none() => parts.push(alone("input.bias".into(), vec![hidden])),
            None => {
                let tensors = [("kernel", vec![hidden, width]), ("bias", vec![width])];
                parts.extend(tensors.map(|(name, shape)| {
                    part(format!("{place}recurrent.{name}"), shape, format!("{place}recurrent"), true)
                }));
            }
            Some((matrix, sides)) => {
                for (name, shape) in matrix.tensors(sides)? {
                    let parameter = format!("{place}recurrent.cores");
                    parts.push(part(format!("{place}recurrent.{name}"), shape, parameter, true));
                }
                parts.push(alone(format!("{place}recurrent.bias"), vec![width]));
            }
        }
    }
    parts.push(alone("classifier.kernel".into(), vec![config.units_read(), classes]));
    parts.push(alone("classifier.bias".into(), vec![classes]));
    Ok(parts)
}

/// The matrix U `[H, G·H]`, row by row, and the biases `[G·H]` of a place; a factorized U is multiplied out.
///
/// # Errors
/// A tensor that is missing.
pub(crate) fn recurrent(config: &Config, named: &Weights, place: &str) -> Result<(Vec<f32>, Vec<f32>)> {
    let value = |name: &str| -> Result<&Tensor> {
        let name = format!("{place}recurrent.{name}");
        named.get(&name).ok_or_else(|| Error::Unsupported(format!("no tensor {name:?}")))
    };
    let bias = value("bias")?.to_vec1()?;
    let Some((matrix, sides)) = config.state_matrix()? else {
        return Ok((value("kernel")?.flatten_all()?.to_vec1()?, bias));
    };
    let flat = |(name, _): &(String, Vec<usize>)| Ok(value(name)?.flatten_all()?);
    let cores = matrix.tensors(sides)?.iter().map(flat).collect::<Result<Vec<_>>>()?;
    let units = Tensor::eye(sides.hidden, DType::F32, &Device::Cpu)?;
    let projection = matrix.projection(sides, Affine::IDENTITY)?;
    let kernel = multiplied_out(projection.as_ref(), &units, &Tensor::cat(&cores, 0)?, false)?;
    Ok((kernel.flatten_all()?.to_vec1()?, bias))
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
        let flat = parameters.get(&part.parameter).ok_or_else(|| fails("is missing"))?.flatten_all()?;
        let (start, length) = (starts.entry(&part.parameter).or_default(), part.shape.iter().product());
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
        let all = parameters.get(&part.parameter).map_or(0, Tensor::elem_count);
        if starts.get(part.parameter.as_str()) != Some(&all) {
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
        let run =
            if part.run { tensor.flatten_all().map_err(|error| error.to_string())? } else { tensor.clone() };
        runs.entry(&part.parameter).or_default().push(run);
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
