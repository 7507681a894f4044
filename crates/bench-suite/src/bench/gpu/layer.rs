//! The TT layer from u8 frames against its floor.

use super::limits::Limits;
use super::tables::Tables;
use super::{Bench, Case, config};
use crate::device::Precision;
use anyhow::{Context, Result};
use candle_core::{Tensor, Var};
use std::cell::Cell;
use std::rc::Rc;
use tt_core::apply::Backend;
use tt_core::rng::stream;
use tt_core::{TtOperator, TtShape, init};

impl<'a> Bench<'a> {
    /// The limits of the device, then forward alone, and forward with the gradient of the cores, of UCF11's TT-GRU.
    pub(super) fn layer(&mut self) -> Result<Vec<Case<'a>>> {
        // A process that goes on after another must know the limits too; the first one's are in the records.
        let known = if self.options.from > 0 { Some(self.limits()?) } else { None };
        self.tables = Tables::default();
        let known = Rc::new(Cell::new(known));
        let measured = Rc::clone(&known);
        let mut cases = vec![Case::new("limits".into(), move |bench| {
            measured.set(Some(bench.limits()?));
            Ok(())
        })];
        let sizes = if self.options.quick { vec![8] } else { vec![1024, 7_744, 16_384] };
        for precision in self.precisions.clone() {
            for frames in sizes.clone() {
                let known = Rc::clone(&known);
                cases.push(Case::new(format!("{frames} frames, {precision}"), move |bench| {
                    let limits = known.get().context("the limits of the device are not known")?;
                    bench.layer_of(frames, precision, &limits)
                }));
            }
        }
        Ok(cases)
    }

    /// The floor is the longer of two times at the limits measured: reading the frames once and writing the gates, and
    /// the multiply-adds of the cheapest order, once for each f16 number that a factor is split in. With the gradient, frames are read
    /// twice, gates and their gradient passed on, and the multiply-adds are three times as many.
    fn layer_of(&mut self, frames: usize, precision: Precision, limits: &Limits) -> Result<()> {
        let config = config(precision, self.options.quick);
        let shape = TtShape::uniform(&config.input_modes, &config.output_modes, config.rank, 3)?;
        let cores = init::cores(&shape, config.core_init, &mut stream(0, "bench-gpu/cores"));
        let count = cores.len();
        let cores = Var::from_tensor(&Tensor::from_vec(cores, count, &self.device.device)?)?;
        let fixed = cores.as_detached_tensor();
        let layer = TtOperator::with_precision(&shape, config.affine, Backend::Fused, precision.into());
        let x = self.frames(&[frames], config.features)?.rows.tensor()?;
        let terms = tt_core::apply::Precision::from(precision).terms() as f64;
        let bytes = frames as f64 * (shape.in_features() + 4 * shape.out_features()) as f64;
        let macs = frames as f64 * shape.macs_per_row() as f64 * terms;
        let floor = |bytes: f64, macs: f64| Some((bytes / limits.bytes_s).max(macs / limits.macs_s) * 1e3);
        let name = precision.name();
        let times = self.time(|| Ok(layer.forward(&x, &fixed)?))?;
        self.push(("layer", "forward", "ours", name), frames, &times, floor(bytes, macs))?;
        let times = self.time(|| Ok(layer.forward(&x, &cores)?.backward()?))?;
        let both = floor(2.0 * bytes, 3.0 * macs);
        self.push(("layer", "forward and backward", "ours", name), frames, &times, both)
    }
}
