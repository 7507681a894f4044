//! The only place that opens a device.

use crate::device_name::{CardUse, DeviceName, Precision};
use anyhow::{Result, bail};
use candle_core::Device;

/// An open device that keeps track of its use.
#[derive(Debug)]
pub struct Opened {
    /// For candle.
    pub device: Device,
    precision: Precision,
    #[cfg(feature = "cuda")]
    card: Option<super::cuda::Card>,
}

/// Opens a device for products of this precision.
///
/// # Errors
/// The program was not built for the device, the machine does not have it, or it does not offer the
/// precision; the message says what to do.
pub fn open(name: DeviceName, precision: Precision) -> Result<Opened> {
    precision.check(name)?;
    match name {
        DeviceName::Cpu => Ok(Opened {
            device: Device::Cpu,
            precision,
            #[cfg(feature = "cuda")]
            card: None,
        }),
        DeviceName::Cuda(number) => cuda(number, precision),
        DeviceName::Metal => metal(precision),
        DeviceName::Auto => bail!("auto stands for a device that cargo xtask chooses"),
    }
}

#[cfg(feature = "cuda")]
fn cuda(number: usize, precision: Precision) -> Result<Opened> {
    let (device, card) = super::cuda::Card::open(number)?;
    candle_core::cuda::set_gemm_reduced_precision_f32(precision != Precision::F32);
    Ok(Opened { device, precision, card: Some(card) })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize, _: Precision) -> Result<Opened> {
    bail!(
        "this program was built without CUDA: `cargo xtask setup --cuda` builds one with it, and \
           `cargo xtask … --device cuda` starts that one"
    )
}

#[cfg(feature = "metal")]
fn metal(precision: Precision) -> Result<Opened> {
    use anyhow::Context;
    let device = Device::new_metal(0).context("no Metal device on this machine; --device cpu needs none")?;
    Ok(Opened {
        device,
        precision,
        #[cfg(feature = "cuda")]
        card: None,
    })
}

#[cfg(not(feature = "metal"))]
fn metal(_: Precision) -> Result<Opened> {
    bail!(
        "this program was built without Metal: on a Mac, `cargo xtask setup --metal` builds one with it, and \
           `cargo xtask … --device metal` starts that one"
    )
}

impl Opened {
    /// Changes the precision of candle's own products; our kernels get theirs when they are built.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        #[cfg(feature = "cuda")]
        candle_core::cuda::set_gemm_reduced_precision_f32(precision != Precision::F32);
    }

    /// Precision of the products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of frames that may stay on the device: none on the CPU, where the page cache holds them, and
    /// none on Metal, which does not report free memory.
    pub fn room_for_frames(&self) -> u64 {
        #[cfg(feature = "cuda")]
        if let Some(card) = &self.card {
            return card.room_for_frames();
        }
        0
    }

    /// Waits for all started work.
    ///
    /// # Errors
    /// A failure of that work.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.device.synchronize()?)
    }

    /// The use of a card since it was opened; none on the CPU.
    pub fn card_use(&self, resident: bool) -> Option<CardUse> {
        if self.device.is_cpu() {
            return None;
        }
        let use_of = |kind: &str, name: String, peak_bytes, energy_j| CardUse {
            kind: kind.to_owned(),
            name,
            precision: self.precision,
            resident,
            peak_bytes,
            energy_j,
        };
        #[cfg(feature = "cuda")]
        if let Some(card) = &self.card {
            return Some(use_of("cuda", card.name().to_owned(), card.peak_bytes(), card.energy_j()));
        }
        Some(use_of("metal", "Metal".to_owned(), None, None))
    }

    /// Tells a card that nothing will be copied beside its work.
    #[cfg(feature = "cuda")]
    pub(crate) fn use_one_stream(&self) {
        if let Some(card) = &self.card {
            card.use_one_stream();
        }
    }

    /// Uploads batches that are not on the device.
    #[cfg(feature = "cuda")]
    pub(super) fn uploader(&self) -> Result<Option<super::cuda::Uploader>> {
        self.card.as_ref().map(super::cuda::Card::uploader).transpose()
    }
}

impl From<Precision> for tt_core::apply::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_error_that_says_what_to_do() {
        assert!(open(DeviceName::Cpu, Precision::F32).unwrap().card_use(false).is_none());
        let error = open(DeviceName::Cpu, Precision::Tf32).unwrap_err().to_string();
        assert_eq!(error, "precision tf32 is for CUDA devices: cpu computes in f32");
        if cfg!(not(feature = "cuda")) {
            let error = open(DeviceName::Cuda(0), Precision::Bf16).unwrap_err().to_string();
            assert!(error.contains("cargo xtask setup --cuda"), "{error}");
        }
        if cfg!(not(feature = "metal")) {
            let error = open(DeviceName::Metal, Precision::F32).unwrap_err().to_string();
            assert!(error.contains("cargo xtask setup --metal"), "{error}");
        }
    }
}
