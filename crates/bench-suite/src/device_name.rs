//! Names of devices and precisions, and what a cell used of a card.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device by name: `cpu`, `cuda`, `cuda:1`, `metal`, or `auto` for the best one available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceName {
    /// A graphics card if there is one, else the CPU.
    Auto,
    /// All cores.
    #[default]
    Cpu,
    /// The NVIDIA card with this number.
    Cuda(usize),
    /// The graphics processor of a Mac.
    Metal,
}

/// Precision of products on a card: f32 as on every other device, or less for speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As exact as f32.
    #[default]
    F32,
    /// Factors of at least 11 bits.
    Tf32,
    /// Factors of at least 8 bits; a TT layer's have 11, which cost no more.
    Bf16,
}

/// No device has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {name:?}: choose one of {choices}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    choices: &'static str,
}

impl DeviceName {
    /// The name without a number: all that results depend on.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Metal => "metal",
        }
    }
}

impl FromStr for DeviceName {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let unknown = || UnknownName {
            what: "device",
            name: name.to_owned(),
            choices: "auto, cpu, cuda, cuda:N, metal",
        };
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => {
                let number = name.strip_prefix("cuda:").ok_or_else(unknown)?;
                Ok(Self::Cuda(number.parse().map_err(|_| unknown())?))
            }
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = UnknownName;

    fn try_from(name: String) -> Result<Self, UnknownName> {
        name.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda(number) if *number > 0 => write!(f, "cuda:{number}"),
            other => f.write_str(other.kind()),
        }
    }
}

impl Precision {
    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// The device computes only in f32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("precision {precision} is for CUDA devices: {device} computes in f32")]
pub struct NotOffered {
    device: DeviceName,
    precision: Precision,
}

impl Precision {
    /// Refuses what a device does not offer.
    ///
    /// # Errors
    /// Any precision but f32, except on CUDA.
    pub fn check(self, device: DeviceName) -> Result<(), NotOffered> {
        if self == Self::F32 || matches!(device, DeviceName::Cuda(_)) {
            return Ok(());
        }
        Err(NotOffered { device, precision: self })
    }
}

impl FromStr for Precision {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::F32, Self::Tf32, Self::Bf16].into_iter().find(|p| p.name() == name).ok_or_else(|| {
            UnknownName { what: "precision", name: name.to_owned(), choices: "f32, tf32, bf16" }
        })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a cell used of a graphics card; none for cells on the CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardUse {
    /// `cuda` or `metal`.
    pub kind: String,
    /// The card's own name.
    pub name: String,
    /// Precision of the products.
    pub precision: Precision,
    /// Whether all frames were in the card's memory; otherwise they were copied batch by batch.
    pub resident: bool,
    /// Peak memory of this process on the card, in bytes; none if the card does not report it.
    pub peak_bytes: Option<u64>,
    /// Energy used by the card from the first step to the last, in joules, including other processes; none if
    /// it does not report it.
    pub energy_j: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["auto", "cpu", "cuda", "cuda:3", "metal"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cuda:0".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
        let error = "gpu".parse::<DeviceName>().unwrap_err().to_string();
        assert_eq!(error, "unknown device \"gpu\": choose one of auto, cpu, cuda, cuda:N, metal");
        assert!("cuda:x".parse::<DeviceName>().is_err());
        for precision in ["f32", "tf32", "bf16"] {
            assert_eq!(precision.parse::<Precision>().unwrap().to_string(), precision);
        }
        assert!("f16".parse::<Precision>().is_err());
    }
}
