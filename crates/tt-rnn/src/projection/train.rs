//! A Tensor Train for all gates, or one train per gate, their cores one after the other in the weights.

use super::gates::{Beside, ByGate};
use super::network::NetworkProjection;
use super::{Fixed, GateLayout, Kernel, Matrix, Projection, Weights};
use crate::Result;
use crate::call::LayerCall;
use crate::config::ModelConfig;
use crate::error::check_size;
use crate::rates::Kind;
use candle_core::{Device, Tensor};
use std::sync::Arc;
use tt_core::apply::{Affine, Backend, Fused, Path, Precision, halves};
use tt_core::init::CoreInit;
use tt_core::network::Format;
use tt_core::network::format::Train;
use tt_core::rng::stream;
use tt_core::{TtOperator, TtShape, init};

/// A projection in Tensor-Train form.
#[derive(Debug)]
pub struct TtProjection {
    /// Of one train.
    shape: TtShape,
    operator: TtOperator,
    trains: ByGate<Fused>,
    affine: Affine,
    backend: Backend,
    init: CoreInit,
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
        let operator = TtOperator::new(&shape, affine, Backend::Fused);
        let (params, width) = (shape.params(), shape.out_features());
        let trains = ByGate { kernel: Fused::new(&shape, affine), matrices: count, params, width };
        let init = CoreInit::Glorot1d;
        Ok(Self { shape, operator, trains, affine, backend: Backend::Fused, init })
    }

    /// The same on another backend.
    #[must_use]
    pub fn on(mut self, backend: Backend, precision: Precision) -> Self {
        self.backend = backend;
        self.operator = TtOperator::with_precision(&self.shape, self.affine, backend, precision);
        if let Some(path) = backend.path() {
            self.trains.kernel = Fused::on(&self.shape, self.affine, path);
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
        self.shape.params() * self.trains.matrices
    }
}

/// The projection of a model.
pub(super) fn of_model(config: &ModelConfig, gates: usize) -> Result<Arc<dyn Projection>> {
    Ok(Arc::new(train_of_model(config, gates)?))
}

/// The shape of the trains of a model whose cell has so many gates: [`ModelConfig::rank`] everywhere, or ranks of its own, or
/// as large as the budget allows, found as for all other formats.
///
/// # Errors
/// Shapes that no train can have; a budget below the weights of rank 1.
pub(crate) fn shape_of_model(config: &ModelConfig, gates: usize) -> Result<TtShape> {
    let ModelConfig { input_modes, output_modes, rank, formats, .. } = config;
    if formats.input_weights == 0 && !formats.ranks.contains_key(Train.name()) {
        return Ok(TtShape::uniform(input_modes, output_modes, *rank, gates)?);
    }
    let (shape, _) = NetworkProjection::shape_of_model(&Train, config, gates)?;
    let ranks = [&[1], shape.ranks(), &[1]].concat();
    Ok(TtShape::new(input_modes, output_modes, &ranks, gates)?)
}

fn train_of_model(config: &ModelConfig, gates: usize) -> Result<TtProjection> {
    if let Some(path) = config.backend.path() {
        path.check()?;
    }
    let shape = shape_of_model(config, gates)?;
    let projection = TtProjection::new(&shape, config.gates, config.affine)?;
    Ok(projection.on(config.backend, config.precision).starting(config.core_init))
}

/// What multiplies frames by the train of a model with three gates on a device: for records. None where the sizes are no
/// train's, as they may be for other models, or the machine lacks the backend.
pub fn kernels_for_frames(config: &ModelConfig, device: &Device) -> Option<String> {
    if config.backend.path().is_none() {
        return Some(config.backend.to_string());
    }
    let train = train_of_model(config, 3).ok()?;
    if device.is_cpu() {
        Some(train.trains.kernel.kernels_for_bytes())
    } else {
        halves::kernels_for_bytes(&train.shape, config.precision, device).ok()
    }
}

impl Projection for TtProjection {
    fn features(&self) -> usize {
        self.shape.in_features()
    }

    fn outputs(&self) -> usize {
        self.shape.out_features() * self.trains.matrices
    }

    fn macs_per_row(&self) -> usize {
        self.shape.macs_per_row() * self.trains.matrices
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
        (0..self.trains.matrices).flat_map(cores).collect()
    }

    fn matrix(&self) -> Result<Option<Matrix>> {
        Ok(Some(Matrix::of_trains(&self.shape, self.trains.matrices)))
    }

    fn forward(&self, rows: &Tensor, weights: &Tensor, _: &LayerCall) -> Result<Tensor> {
        let length = self.shape.params();
        let mut parts = Vec::with_capacity(self.trains.matrices);
        for gate in 0..self.trains.matrices {
            parts.push(self.operator.forward(rows, &weights.narrow(0, gate * length, length)?)?);
        }
        Ok(Tensor::cat(&parts, 1)?) // [n, G·H]
    }

    fn kernel(&self) -> Option<&dyn Kernel> {
        self.backend.path().map(|_| &self.trains as &dyn Kernel)
    }

    fn fixed(&self, weights: Vec<f32>) -> Result<Option<Box<dyn Fixed>>> {
        check_size("cores", self.params(), weights.len())?;
        let trains = weights.chunks_exact(self.shape.params());
        let path = self.backend.path().unwrap_or(Path::Automatic);
        let trains = trains.map(|cores| Fused::on(&self.shape, self.affine, path).fixed(cores));
        Ok(Some(Box::new(Beside(trains.collect::<tt_core::Result<_>>()?))))
    }
}
