//! The TT layer from u8 frames against its floor.

use super::limits::Limits;
use super::{Bench, config};
use anyhow::Result;
use candle_core::{Tensor, Var};
use tt_core::apply::Backend;
use tt_core::rng::stream;
use tt_core::{TtOperator, TtShape, init};

impl Bench<'_> {
    /// Forward alone, and forward with the gradient of the cores, of UCF11's TT-GRU.
    ///
    /// The floor is the longer of two times at the limits measured: reading the frames once and writing the gates, and
    /// the multiply-adds of the cheapest order, once for each f16 number that a factor is split in. With the gradient, frames are read
    /// twice, gates and their gradient passed on, and the multiply-adds are three times as many.
    pub(super) fn layer(&mut self, limits: &Limits) -> Result<()> {
        for precision in self.precisions.clone() {
            let config = config(precision, self.options.quick);
            let shape = TtShape::uniform(&config.input_modes, &config.output_modes, config.rank, 3)?;
            let cores = init::cores(&shape, config.core_init, &mut stream(0, "bench-gpu/cores"));
            let count = cores.len();
            let cores = Var::from_tensor(&Tensor::from_vec(cores, count, &self.device.device)?)?;
            let fixed = cores.as_detached_tensor();
            let layer = TtOperator::with_precision(&shape, config.affine, Backend::Fused, precision.into());
            let sizes = if self.options.quick { vec![8] } else { vec![1024, 7_744, 16_384] };
            for frames in sizes {
                let x = self.frames(&[frames], config.features)?.rows.tensor()?;
                let terms = tt_core::apply::Precision::from(precision).terms() as f64;
                let bytes = frames as f64 * (shape.in_features() + 4 * shape.out_features()) as f64;
                let macs = frames as f64 * shape.macs_per_row() as f64 * terms;
                let floor =
                    |bytes: f64, macs: f64| Some((bytes / limits.bytes_s).max(macs / limits.macs_s) * 1e3);
                let name = precision.name();
                let times = self.time(|| Ok(layer.forward(&x, &fixed)?))?;
                self.push(("layer", "forward", "ours", name), frames, &times, floor(bytes, macs));
                let times = self.time(|| Ok(layer.forward(&x, &cores)?.backward()?))?;
                let both = floor(2.0 * bytes, 3.0 * macs);
                self.push(("layer", "forward and backward", "ours", name), frames, &times, both);
            }
        }
        Ok(())
    }
}
