//! What the device can do at most, measured on the spot: bytes a second, and products a second.

use super::Bench;
use anyhow::Result;
use candle_core::{DType, Tensor};
use serde::Serialize;

/// Limits of a device.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes read and written a second, by a copy within the device's memory.
    pub(super) bytes_s: f64,
    /// Multiply-adds a second of the largest product: bf16 where the device has tensor cores, else f32.
    pub(super) macs_s: f64,
}

#[derive(Serialize)]
struct LimitRow {
    limit: &'static str,
    value: f64,
    unit: &'static str,
}

impl Bench<'_> {
    /// Measures the limits and leaves them in `limits.csv`.
    pub(super) fn limits(&mut self) -> Result<Limits> {
        let device = &self.device.device;
        let bytes = self.size(4 << 30, 16 << 20);
        let from = Tensor::zeros(bytes, DType::U8, device)?;
        let copy = self.time(|| Ok(from.copy()?))?;
        let bytes_s = 2.0 * bytes as f64 / (least(&copy) * 1e-3);
        let rate = |dtype: DType, n: usize| -> Result<f64> {
            let a = Tensor::ones((n, n), dtype, device)?;
            let times = self.time(|| Ok(a.matmul(&a)?))?;
            Ok((n as f64).powi(3) / (least(&times) * 1e-3))
        };
        let f32_macs_s = rate(DType::F32, self.size(8192, 256))?;
        let card = !device.is_cpu();
        let bf16_macs_s = if card { rate(DType::BF16, self.size(8192, 256))? } else { f32_macs_s };
        let row = |limit, value, unit| LimitRow { limit, value, unit };
        for row in [
            row("copy", bytes_s / 1e9, "GB/s read and written"),
            row("f32 product", f32_macs_s / 1e12, "10^12 multiply-adds/s"),
            row("bf16 product", bf16_macs_s / 1e12, "10^12 multiply-adds/s"),
        ] {
            self.tables.add("limits.csv", &row)?;
        }
        Ok(Limits { bytes_s, macs_s: bf16_macs_s })
    }
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}
