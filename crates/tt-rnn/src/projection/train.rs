//! A Tensor Train for all gates, or one train per gate, their cores one after the other in the weights.

use super::{Fixed, GateLayout, Kernel, Memory, Projection, ProjectionGradients, Weights};
use crate::Result;
use crate::call::LayerCall;
use crate::config::ModelConfig;
use crate::error::check_size;
use crate::rates::Kind;
use candle_core::Tensor;
use std::sync::Arc;
use tt_core::apply::{Affine, Backend, FixedCores, Fused, Precision, Rows, Saved};
use tt_core::init::CoreInit;
use tt_core::rng::stream;
use tt_core::{TtOperator, TtShape, init};

/// A projection in Tensor-Train form.
#[derive(Debug)]
pub struct TtProjection {
    /// Of one train.
    shape: TtShape,
    trains: Vec<Train>,
    affine: Affine,
    backend: Backend,
    init: CoreInit,
}

/// One train, by operators and on the CPU's kernels.
#[derive(Debug)]
struct Train {
    operator: TtOperator,
    fused: Fused,
}

impl TtProjection {
    /// The fused projection in f32; `shape` has the gate factor of all gates together.
    ///
    /// # Errors
    /// A shape whose gates cannot be told apart.
    pub fn new(shape: &TtShape, layout: GateLayout, affine: Affine) -> Result<Self> {
        let (shape, count) = match layout {
            GateLayout::Concatenated => (shape.clone(), 1),
            GateLayout::Separate => (shape.with_gates(1)?, shape.gates()),
        };
        let train = |_| Train {
            operator: TtOperator::new(&shape, affine, Backend::Fused),
            fused: Fused::new(&shape, affine),
        };
        let trains = (0..count).map(train).collect();
        Ok(Self { trains, shape, affine, backend: Backend::Fused, init: CoreInit::Glorot1d })
    }

    /// The same on another backend.
    #[must_use]
    pub fn on(mut self, backend: Backend, precision: Precision) -> Self {
        self.backend = backend;
        for train in &mut self.trains {
            train.operator = TtOperator::with_precision(&self.shape, self.affine, backend, precision);
        }
        self
    }

    /// The same with other initial values.
    #[must_use]
    pub fn starting(self, init: CoreInit) -> Self {
        Self { init, ..self }
    }

    /// Weights of all trains together.
    pub fn params(&self) -> usize {
        self.shape.params() * self.trains.len()
    }
}

/// The projection of a model.
pub(super) fn of_model(config: &ModelConfig, gates: usize) -> Result<Arc<dyn Projection>> {
    let rank = config.train_rank(gates)?;
    let shape = TtShape::uniform(&config.input_modes, &config.output_modes, rank, gates)?;
    let projection = TtProjection::new(&shape, config.gates, config.affine)?;
    Ok(Arc::new(projection.on(config.backend, config.precision).starting(config.core_init)))
}

impl Projection for TtProjection {
    fn features(&self) -> usize {
        self.shape.in_features()
    }

    fn outputs(&self) -> usize {
        self.shape.out_features() * self.trains.len()
    }

    fn macs_per_row(&self) -> usize {
        self.shape.macs_per_row() * self.trains.len()
    }

    fn weights(&self) -> Weights {
        let count = self.params();
        Weights {
            name: "input.cores",
            shape: vec![count],
            parts: vec![(count, Kind::InputCores)],
            sink: false,
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let cores =
            |gate| init::cores(&self.shape, self.init, &mut stream(seed, &format!("init/cores/{gate}")));
        (0..self.trains.len()).flat_map(cores).collect()
    }

    fn forward(&self, rows: &Tensor, weights: &Tensor, _: &LayerCall) -> Result<Tensor> {
        let length = self.shape.params();
        let mut parts = Vec::with_capacity(self.trains.len());
        for (gate, train) in self.trains.iter().enumerate() {
            parts.push(train.operator.forward(rows, &weights.narrow(0, gate * length, length)?)?);
        }
        Ok(Tensor::cat(&parts, 1)?) // [n, G·H]
    }

    fn kernel(&self) -> Option<&dyn Kernel> {
        (self.backend == Backend::Fused).then_some(self)
    }

    fn fixed(&self, weights: Vec<f32>) -> Result<Option<Box<dyn Fixed>>> {
        check_size("cores", self.params(), weights.len())?;
        let trains = weights.chunks_exact(self.shape.params());
        let trains = trains.map(|cores| Fused::new(&self.shape, self.affine).fixed(cores));
        Ok(Some(Box::new(FixedTrains(trains.collect::<tt_core::Result<_>>()?))))
    }
}

/// What the kernels keep, for each train, and room for the columns of one.
#[derive(Debug, Default)]
struct Kept {
    trains: Vec<Saved>,
    columns: Vec<f32>,
}

impl Kernel for TtProjection {
    fn forward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        out: &mut [f32],
        memory: &mut Memory,
        call: &LayerCall,
    ) -> Result<()> {
        let Kept { trains: saved, columns } = memory.of();
        saved.resize_with(self.trains.len(), Saved::default);
        if let [train] = self.trains.as_slice() {
            return Ok(train.fused.forward(rows, weights, out, call.train.then_some(&mut saved[0]))?);
        }
        let (gates, params, width) = (self.trains.len(), self.shape.params(), self.shape.out_features());
        columns.resize(out.len() / gates, 0.0);
        for (gate, (train, saved)) in self.trains.iter().zip(saved).enumerate() {
            let cores = &weights[gate * params..][..params];
            train.fused.forward(rows, cores, columns, call.train.then_some(saved))?;
            for (row, part) in out.chunks_exact_mut(gates * width).zip(columns.chunks_exact(width)) {
                row[gate * width..][..width].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn backward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        memory: &mut Memory,
        dout: &[f32],
        gradients: ProjectionGradients<'_>,
        _: &LayerCall,
    ) -> Result<()> {
        let Kept { trains: saved, columns } = memory.of();
        let ProjectionGradients { weights: dweights, rows: mut dx } = gradients;
        if let ([train], [saved]) = (self.trains.as_slice(), saved.as_slice()) {
            return Ok(train.fused.backward(rows, weights, saved, dout, dweights, dx)?);
        }
        let (gates, params, width) = (self.trains.len(), self.shape.params(), self.shape.out_features());
        let mut part_dx = dx.as_ref().map(|dx| vec![0.0; dx.len()]);
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        columns.resize(dout.len() / gates, 0.0);
        for (gate, (train, saved)) in self.trains.iter().zip(saved.iter()).enumerate() {
            let range = gate * params..(gate + 1) * params;
            for (row, part) in dout.chunks_exact(gates * width).zip(columns.chunks_exact_mut(width)) {
                part.copy_from_slice(&row[gate * width..][..width]);
            }
            let (cores, dcores) = (&weights[range.clone()], &mut dweights[range]);
            train.fused.backward(rows, cores, saved, columns, dcores, part_dx.as_deref_mut())?;
            if let (Some(dx), Some(part)) = (dx.as_deref_mut(), part_dx.as_ref()) {
                dx.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        Ok(())
    }
}

/// Trains that stay as they are, one beside the other.
#[derive(Debug)]
struct FixedTrains(Vec<FixedCores>);

impl Fixed for FixedTrains {
    fn forward(&mut self, row: &[u8], out: &mut [f32]) -> Result<()> {
        let width = out.len() / self.0.len();
        for (train, out) in self.0.iter_mut().zip(out.chunks_exact_mut(width)) {
            train.forward(Rows::U8(row), out)?;
        }
        Ok(())
    }
}
