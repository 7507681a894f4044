//! The TT layer `y = W x`, one backend per file: the slow, obvious one is the specification of the others.

use crate::{Error, Result};

pub mod fused;
#[cfg(feature = "candle")]
#[doc(hidden)]
pub mod halves;
#[doc(hidden)]
pub mod matrix;
#[cfg(feature = "candle")]
pub mod ops;
pub mod reference;
mod rows;

#[doc(inline)]
pub use crate::precision::Precision;
pub use fused::{FixedCores, Fused, Isa, Path, Saved, Unit};
pub(crate) use rows::ByteRows;
pub use rows::{Apart, Row, Rows};

/// Which implementation of the TT layer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Backend {
    /// Loops over the definition in f64: the specification, exponentially slow.
    Reference,
    /// candle tensor operations: every device and floating-point type.
    Ops,
    /// The device's own kernels; on the CPU those that are fastest there.
    Fused,
    /// The CPU's kernels in f32.
    FusedF32,
    /// The CPU's kernels, bytes by digits with AVX-512's byte products.
    Vnni,
    /// The CPU's kernels, bytes by digits on Intel's tile registers.
    Amx,
}

impl Backend {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("reference", Self::Reference),
        ("ops", Self::Ops),
        ("fused", Self::Fused),
        ("fused-f32", Self::FusedF32),
        ("vnni", Self::Vnni),
        ("amx", Self::Amx),
    ];

    /// The kernels of the CPU that it names, if it does.
    pub fn path(self) -> Option<Path> {
        match self {
            Self::Reference | Self::Ops => None,
            Self::Fused => Some(Path::Automatic),
            Self::FusedF32 => Some(Path::F32),
            Self::Vnni => Some(Path::Digits(Unit::Vnni)),
            Self::Amx => Some(Path::Digits(Unit::Amx)),
        }
    }
}

impl std::str::FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, backend)| backend).ok_or_else(|| {
            Error::Unknown {
                what: "backend",
                name: name.to_owned(),
                choices: "reference, ops, fused, fused-f32, vnni, amx",
            }
        })
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::ALL.into_iter().find(|(_, backend)| backend == self).map_or("", |(name, _)| name))
    }
}

/// The map `p -> scale * p + shift` from stored pixels to the layer's input, folded into the kernel.
///
/// Gradients with respect to the input are taken with respect to the *stored* number p.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Affine {
    /// Factor of the stored number.
    pub scale: f32,
    /// Added after scaling.
    pub shift: f32,
}

impl Affine {
    /// Leaves the numbers as they are.
    pub const IDENTITY: Self = Self { scale: 1.0, shift: 0.0 };
}

impl Default for Affine {
    fn default() -> Self {
        Self::IDENTITY
    }
}

/// Refuses a buffer of the wrong length.
pub(crate) fn check(what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::Size { what, expected: expected.to_string(), found: found.to_string() })
    }
}

/// Number of rows of `len` numbers with `width` columns; at least one.
pub(crate) fn row_count(len: usize, width: usize) -> Result<usize> {
    if len == 0 || !len.is_multiple_of(width) {
        return Err(Error::Size {
            what: "rows",
            expected: format!("a multiple of {width}, at least one row"),
            found: len.to_string(),
        });
    }
    Ok(len / width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_have_names() {
        for (name, backend) in Backend::ALL {
            assert_eq!(backend.to_string(), name);
            assert_eq!(name.parse::<Backend>().unwrap(), backend);
        }
        let text = "fast".parse::<Backend>().unwrap_err().to_string();
        assert!(text.contains(&Backend::ALL.map(|(name, _)| name).join(", ")), "{text}");
    }

    #[test]
    fn rows_are_counted() {
        assert_eq!(row_count(12, 4).unwrap(), 3);
        assert!(row_count(0, 4).is_err());
        assert!(row_count(13, 4).is_err());
    }
}
