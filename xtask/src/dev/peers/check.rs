//! Whether a worker computed the reference's function.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::dev::peers::case::Case;
use crate::dev::peers::plan::Function;

/// Largest `max|error| / max|reference|` of a tensor.
pub(super) const TOLERANCE: f64 = 1e-4;
/// The same of peers whose products have factors of fewer digits: another function is further off.
pub(super) const REDUCED_TOLERANCE: f64 = 0.1;

/// Tensors of a check by name.
#[derive(Debug)]
pub(super) struct Tensors(BTreeMap<String, Vec<f32>>);

impl Tensors {
    /// Reads the blobs that a reply to `check` names.
    pub(super) fn read(folder: &Path, reply: &Value) -> Result<Self> {
        let entries = reply["tensors"].as_array().context("the worker's answer has no tensors")?;
        let mut tensors = BTreeMap::new();
        for entry in entries {
            let name = entry["name"].as_str().context("a tensor has no name")?;
            let file = entry["file"].as_str().context("a tensor has no file")?;
            let path = folder.join(file);
            let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            let values = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            tensors.insert(name.to_owned(), values);
        }
        Ok(Self(tensors))
    }

    /// The largest error over all tensors that a model with this function must give.
    ///
    /// # Errors
    /// If a tensor is missing, has another length or is further off than allowed.
    pub(super) fn worst(
        &self,
        reference: &Self,
        case: &Case,
        function: Function,
        allowed: f64,
    ) -> Result<f64> {
        let (suffix, input, cores) = match function {
            Function::Tt => (String::new(), "d_cores", case.cores.clone()),
            Function::Format(format) => (format!(".{format}"), "d_cores", case.cores_of(format)),
            Function::Dense => (".dense".to_owned(), "d_w_rows", Vec::new()),
            Function::ResetAfter => (".reset_after".to_owned(), "d_w_rows", Vec::new()),
            Function::Floor => return Ok(0.0),
        };
        let mut worst = 0.0_f64;
        for name in ["h", input, "d_u", "d_b"] {
            let found = self.0.get(name).with_context(|| format!("it gave no tensor {name}"))?;
            let expected = reference.0.get(&format!("{name}{suffix}"));
            let expected = expected.with_context(|| format!("the reference has no tensor {name}{suffix}"))?;
            ensure!(
                found.len() == expected.len(),
                "{name} has {} numbers instead of {}",
                found.len(),
                expected.len()
            );
            let whole = [(name.to_owned(), 0, found.len())];
            let parts = if name == "d_cores" { cores.as_slice() } else { &whole };
            for (part, start, length) in parts {
                let range = *start..start + length;
                let error = relative(&found[range.clone()], &expected[range]);
                // Written so that NaN fails.
                ensure!(error <= allowed, "{part} is off by {error:.1e} (allowed {allowed:.0e})");
                worst = worst.max(error);
            }
        }
        Ok(worst)
    }
}

/// `max|a - b| / max|b|`, NaN if any number is.
fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let (mut error, mut scale) = (0.0_f64, 0.0_f64);
    for (&a, &b) in found.iter().zip(expected) {
        let difference = (f64::from(a) - f64::from(b)).abs();
        if difference.is_nan() {
            return f64::NAN;
        }
        error = error.max(difference);
        scale = scale.max(f64::from(b).abs());
    }
    error / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_relative_to_the_largest_number_and_nan_fails() {
        assert_eq!(relative(&[1.0, 4.5], &[1.0, 4.0]), 0.125);
        assert!(relative(&[f32::NAN, 4.0], &[1.0, 4.0]).is_nan());
        let nothing = relative(&[0.0], &[0.0]);
        assert!(nothing.is_nan(), "a gradient that is zero everywhere proves nothing");
    }
}
