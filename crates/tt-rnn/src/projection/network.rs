//! Any tensor network for all gates, or one per gate, their cores one after the other in the weights.

use super::gates::{Beside, ByGate};
use super::{Fixed, Kernel, Matrix, Projection, Weights};
use crate::call::LayerCall;
use crate::config::ModelConfig;
use crate::error::check_size;
use crate::rates::Kind;
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;
use tt_core::apply::{Affine, Backend};
use tt_core::network::{Contracted, Format, FormatShape, Modes, ops};
use tt_core::rng::stream;

/// A projection in the form of a tensor network.
#[derive(Debug)]
pub struct NetworkProjection {
    shape: FormatShape,
    networks: ByGate<Contracted>,
    affine: Affine,
    backend: Backend,
}

impl NetworkProjection {
    /// A projection of as many equal networks as share the gates.
    pub fn new(shape: &FormatShape, networks: usize, affine: Affine) -> Self {
        let network = shape.network();
        let kernel = Contracted::new(network, affine);
        let (params, width) = (network.params(), network.out_features());
        let networks = ByGate { kernel, matrices: networks, params, width };
        Self { shape: shape.clone(), networks, affine, backend: Backend::Fused }
    }

    /// The shape of one network of a model whose cell has so many gates, and the number of networks: ranks of the
    /// configuration, or as large as its budget of weights allows.
    ///
    /// # Errors
    /// Modes, ranks, a tree or a budget that the format cannot have.
    pub fn shape_of_model(
        format: &'static dyn Format,
        config: &ModelConfig,
        gates: usize,
    ) -> Result<(FormatShape, usize)> {
        let (networks, gates) = config.gates.deal(gates);
        let modes = Modes { inputs: config.input_modes.clone(), outputs: config.output_modes.clone(), gates };
        let (options, settings) = (config.formats.options()?, &config.formats);
        let shape = match (settings.input_weights, settings.ranks.get(format.name())) {
            (0, Some(ranks)) => FormatShape::with_ranks(format, &modes, &options, ranks)?,
            (0, None) => FormatShape::uniform(format, &modes, &options, config.rank)?,
            (budget, _) => FormatShape::within(format, &modes, &options, budget / networks)
                .map_err(|error| of_each(error, budget, networks))?,
        };
        Ok((shape, networks))
    }

    /// The shape of one network.
    pub fn shape(&self) -> &FormatShape {
        &self.shape
    }
}

/// An error of one network, where a budget is dealt to as many.
fn of_each(error: tt_core::Error, budget: usize, networks: usize) -> tt_core::Error {
    if networks == 1 {
        return error;
    }
    tt_core::Error::Shape(format!(
        "{error}, for each of {networks} gates: input_weights = {budget} is for all"
    ))
}

/// The projection of a model. Whatever `core_init` is for trains, an entry of W starts with the variance of dense Glorot.
pub(crate) fn of_model(
    format: &'static dyn Format,
    config: &ModelConfig,
    gates: usize,
) -> Result<Arc<dyn Projection>> {
    if !matches!(config.backend, Backend::Fused | Backend::Ops) {
        return Err(Error::Unsupported(format!(
            "backend {} is for Tensor Trains alone; {} runs on fused and ops",
            config.backend,
            format.name()
        )));
    }
    let (shape, networks) = NetworkProjection::shape_of_model(format, config, gates)?;
    let mut projection = NetworkProjection::new(&shape, networks, config.affine);
    projection.backend = config.backend;
    Ok(Arc::new(projection))
}

impl Projection for NetworkProjection {
    fn features(&self) -> usize {
        self.shape.network().in_features()
    }

    fn outputs(&self) -> usize {
        self.networks.width * self.networks.matrices
    }

    fn macs_per_row(&self) -> usize {
        self.networks.kernel.plan().macs_per_row * self.networks.matrices
    }

    fn weights(&self) -> Weights {
        let count = self.networks.params * self.networks.matrices;
        Weights {
            name: "input.cores",
            shape: vec![count],
            parts: vec![(count, Kind::InputCores)],
            sink: false,
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let cores = |gate| self.shape.network().initial(&mut stream(seed, &format!("init/cores/{gate}")));
        (0..self.networks.matrices).flat_map(cores).collect()
    }

    fn matrix(&self) -> Result<Option<Matrix>> {
        Matrix::of_networks(&self.shape, self.networks.matrices).map(Some)
    }

    fn forward(&self, rows: &Tensor, weights: &Tensor, _: &LayerCall) -> Result<Tensor> {
        let ByGate { kernel, matrices, params, .. } = &self.networks;
        let parts = (0..*matrices).map(|gate| {
            let cores = weights.narrow(0, gate * params, *params)?;
            Ok(ops::forward(self.shape.network(), kernel.plan(), self.affine, rows, &cores)?)
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?) // [n, G·H]
    }

    fn kernel(&self) -> Option<&dyn Kernel> {
        (self.backend == Backend::Fused).then_some(&self.networks)
    }

    fn fixed(&self, weights: Vec<f32>) -> Result<Option<Box<dyn Fixed>>> {
        let ByGate { matrices, params, .. } = self.networks;
        check_size("cores", params * matrices, weights.len())?;
        let networks = weights.chunks_exact(params);
        let networks = networks.map(|cores| Contracted::new(self.shape.network(), self.affine).fixed(cores));
        Ok(Some(Box::new(Beside(networks.collect::<tt_core::Result<_>>()?))))
    }
}
