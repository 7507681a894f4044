//! How exact products are.

use crate::{Error, Result};

/// How exact the products of a backend are at least; sums are f32 in all of them.
///
/// A permission, not an order: a backend may be less exact where that is faster, and one without faster kernels computes
/// in f32. CUDA's fused kernels have some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Precision {
    /// 24 bits, with errors to match.
    #[default]
    F32,
    /// 11 bits.
    Tf32,
    /// 8 bits.
    Bf16,
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::Unknown { what: "precision", name: name.to_owned(), choices: "f32, tf32, bf16" }),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_have_names() {
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        }
        let text = "f16".parse::<Precision>().unwrap_err().to_string();
        assert!(text.contains("f32, tf32, bf16"), "{text}");
    }
}
