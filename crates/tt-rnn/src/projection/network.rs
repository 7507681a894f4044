//! Any tensor network for all gates, or one per gate, their cores one after the other in the weights.

use super::{GateLayout, Kernel, Memory, Projection, ProjectionGradients, Weights};
use crate::call::LayerCall;
use crate::config::ModelConfig;
use crate::rates::Kind;
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;
use tt_core::apply::{Affine, Backend, Rows};
use tt_core::network::{Contracted, Format, FormatShape, Modes, SavedRows, ops};
use tt_core::rng::stream;

/// A projection in the form of a tensor network.
#[derive(Debug)]
pub struct NetworkProjection {
    shape: FormatShape,
    networks: Vec<Contracted>,
    affine: Affine,
    backend: Backend,
}

impl NetworkProjection {
    /// A projection of as many equal networks as share the gates.
    pub fn new(shape: &FormatShape, networks: usize, affine: Affine) -> Self {
        let planned = Contracted::new(shape.network(), affine);
        let (plan, isa) = (planned.plan().clone(), planned.isa());
        let more = (1..networks).map(|_| Contracted::with_plan(shape.network(), affine, plan.clone(), isa));
        let networks = more.chain([planned]).collect();
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
        let (networks, gates) = match config.gates {
            GateLayout::Concatenated => (1, gates),
            GateLayout::Separate => (gates, 1),
        };
        let modes = Modes { inputs: config.input_modes.clone(), outputs: config.output_modes.clone(), gates };
        let (options, settings) = (config.formats.options()?, &config.formats);
        let shape = match (settings.input_weights, settings.ranks.get(format.name())) {
            (0, Some(ranks)) => FormatShape::with_ranks(format, &modes, &options, ranks)?,
            (0, None) => FormatShape::uniform(format, &modes, &options, config.rank)?,
            (budget, _) => FormatShape::within(format, &modes, &options, budget / networks)?,
        };
        Ok((shape, networks))
    }

    /// The shape of one network.
    pub fn shape(&self) -> &FormatShape {
        &self.shape
    }

    fn width(&self) -> usize {
        self.shape.network().out_features()
    }

    fn params(&self) -> usize {
        self.shape.network().params()
    }
}

/// The projection of a model. Whatever `core_init` is for trains, an entry of W starts with the variance of dense Glorot.
pub(crate) fn of_model(
    format: &'static dyn Format,
    config: &ModelConfig,
    gates: usize,
) -> Result<Arc<dyn Projection>> {
    if config.backend == Backend::Reference {
        return Err(Error::Unsupported(format!(
            "backend reference is for Tensor Trains alone; {} runs on fused and ops",
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
        self.width() * self.networks.len()
    }

    fn macs_per_row(&self) -> usize {
        self.networks.iter().map(|network| network.plan().macs_per_row).sum()
    }

    fn weights(&self) -> Weights {
        let count = self.params() * self.networks.len();
        Weights {
            name: "input.cores",
            shape: vec![count],
            parts: vec![(count, Kind::InputCores)],
            sink: false,
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let cores = |gate| self.shape.network().initial(&mut stream(seed, &format!("init/cores/{gate}")));
        (0..self.networks.len()).flat_map(cores).collect()
    }

    fn forward(&self, rows: &Tensor, weights: &Tensor, _: &LayerCall) -> Result<Tensor> {
        let length = self.params();
        let parts = self.networks.iter().enumerate().map(|(gate, network)| {
            let cores = weights.narrow(0, gate * length, length)?;
            Ok(ops::forward(self.shape.network(), network.plan(), self.affine, rows, &cores)?)
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?) // [n, G·H]
    }

    fn kernel(&self) -> Option<&dyn Kernel> {
        (self.backend == Backend::Fused).then_some(self)
    }
}

/// What the kernels keep, for each network, and room for the columns of one.
#[derive(Debug, Default)]
struct Kept {
    networks: Vec<SavedRows>,
    columns: Vec<f32>,
}

impl Kernel for NetworkProjection {
    fn forward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        out: &mut [f32],
        memory: &mut Memory,
        call: &LayerCall,
    ) -> Result<()> {
        let Kept { networks: saved, columns } = memory.of();
        saved.resize_with(self.networks.len(), SavedRows::default);
        if let [network] = self.networks.as_slice() {
            return Ok(network.forward(rows, weights, out, call.train.then_some(&mut saved[0]))?);
        }
        let (gates, params, width) = (self.networks.len(), self.params(), self.width());
        columns.resize(out.len() / gates, 0.0);
        for (gate, (network, saved)) in self.networks.iter().zip(saved).enumerate() {
            let cores = &weights[gate * params..][..params];
            network.forward(rows, cores, columns, call.train.then_some(saved))?;
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
        let Kept { networks: saved, columns } = memory.of();
        let ProjectionGradients { weights: dweights, rows: mut dx } = gradients;
        let (gates, params, width) = (self.networks.len(), self.params(), self.width());
        let mut part_dx = dx.as_ref().map(|dx| vec![0.0; dx.len()]);
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        columns.resize(dout.len() / gates, 0.0);
        for (gate, (network, saved)) in self.networks.iter().zip(saved.iter()).enumerate() {
            let range = gate * params..(gate + 1) * params;
            for (row, part) in dout.chunks_exact(gates * width).zip(columns.chunks_exact_mut(width)) {
                part.copy_from_slice(&row[gate * width..][..width]);
            }
            let (cores, dcores) = (&weights[range.clone()], &mut dweights[range]);
            network.backward(rows, cores, saved, columns, dcores, part_dx.as_deref_mut())?;
            if let (Some(dx), Some(part)) = (dx.as_deref_mut(), part_dx.as_ref()) {
                dx.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        Ok(())
    }
}
