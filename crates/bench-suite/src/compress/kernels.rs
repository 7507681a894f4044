//! The kernels of a CNN as trains or sums of products: of one that was trained with the cell, or of the pretrained network
//! that made its features.

use super::{Cell, CompressOptions, Errors, Twin};
use crate::build::model_config;
use crate::data::Clips;
use crate::features;
use crate::places::Places;
use crate::record::{CompressionCase, KernelCase};
use crate::spec::ON_FEATURES;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::time::Instant;
use tt_core::decomposition::Alternating;
use tt_core::network::{FormatShape, ops};
use tt_core::simd::Isa;
use tt_rnn::checkpoint;
use tt_rnn::encoder::{self, factors};
use tt_rnn::lite0::Lite0;
use tt_rnn::models::CnnKernels;

/// What [`CompressOptions::form`] calls them.
pub(super) const FORM: &str = "kernels";

/// A kernel and its factors.
#[derive(Debug)]
pub(super) struct Near {
    kernel: String,
    /// Numbers of the kernel, and of its factors.
    numbers: usize,
    params: usize,
    rel_error: f64,
}

impl Near {
    /// Its row beside the case.
    pub(super) fn row(&self, case: &CompressionCase) -> KernelCase {
        let CompressionCase { model, form, rank, fold, seed, protocol, recipe, .. } = case.clone();
        let Self { kernel, numbers, params, rel_error } = self;
        let (kernel, numbers, params, rel_error) = (kernel.clone(), *numbers, *params, *rel_error);
        KernelCase { model, form, rank, fold, seed, protocol, recipe, kernel, numbers, params, rel_error }
    }
}

/// Factors near kernels, and how near.
struct Found {
    search: Alternating,
    kernels: Vec<Near>,
    errors: Errors,
}

impl Found {
    fn new(search: Alternating) -> Self {
        Self { search, kernels: Vec::new(), errors: Errors::default() }
    }

    /// The factors of a kernel `[k·k·C, S]`.
    fn near(&mut self, kernel: String, shape: &FormatShape, values: &[f32]) -> Result<Tensor> {
        let fit = shape.decompose(values, &self.search).with_context(|| kernel.clone())?;
        let (numbers, params, rel_error) = (values.len(), fit.found.len(), fit.relative_error);
        self.errors.add(values, rel_error);
        self.kernels.push(Near { kernel, numbers, params, rel_error });
        Ok(Tensor::from_vec(fit.found, params, &Device::Cpu)?)
    }
}

/// The form that is asked for.
fn form(cell: &Cell, options: &CompressOptions) -> Result<CnnKernels> {
    let CompressOptions { form, to, rank, .. } = options;
    let model = &cell.record.model;
    ensure!(form == FORM, "{model} has kernels of a CNN to factorize: the form is {FORM}, not {form}");
    ensure!(["tt", "cp"].contains(&to.as_str()), "{model}: kernels become tt or cp, not {to}");
    Ok(CnnKernels::of(to, *rank)?)
}

/// The twin of a cell with the kernels of its CNN factorized.
pub(super) fn of_encoder(cell: &Cell, options: &CompressOptions) -> Result<Twin> {
    form(cell, options)?;
    let Cell { plan, spec, record, weights } = cell;
    let model = record.model.clone();
    let mut spec = spec.clone();
    ensure!(
        spec.model.cnn_kernels == "dense",
        "{model}: its kernels are factors already (model.cnn_kernels = {})",
        spec.model.cnn_kernels
    );
    spec.model.cnn_kernels.clone_from(&options.to);
    spec.model.cnn_rank = options.rank;
    let cnn = encoder::plan(&model_config(&spec, plan.classes.len())?)?;
    let clips = Clips::open(&Places::of_run(&options.run_dir)?, &spec, plan)?;
    let started = Instant::now();
    let (mut start, _) = checkpoint::load(weights)?;
    let mut found = Found::new(Alternating { seed: record.seed, ..Alternating::default() });
    for (conv, shape) in cnn.factorized() {
        let name = format!("encoder.{conv}.kernel");
        let missing = || format!("{}: no {name:?}", weights.display());
        let values = start.remove(&name).with_context(missing)?.flatten_all()?.to_vec1::<f32>()?;
        start.insert(format!("encoder.{conv}.cores"), found.near(conv, shape, &values)?);
    }
    let Found { kernels, errors, .. } = found;
    let (start, params) = (start.into_iter().collect(), cnn.kernels());
    let factorize_s = started.elapsed().as_secs_f64();
    Ok(Twin { model, spec, clips, start, errors, params, kernels, factorize_s })
}

/// A cell on features that the pretrained network makes with its 1×1 kernels factorized; they are computed here. Depthwise
/// kernels and the first convolution stay as they are, 182,880 of 3,328,992 numbers.
pub(super) fn of_pretrained(cell: &Cell, options: &CompressOptions) -> Result<Twin> {
    let form = form(cell, options)?;
    let Cell { plan, spec, weights, .. } = cell;
    let places = Places::of_run(&options.run_dir)?;
    let frames = Clips::open(&places, spec, plan)?;
    let started = Instant::now();
    let (tensors, _) = checkpoint::load(&features::weights(&places, &spec.model.pretrained)?)?;
    // The start from singular vectors is the best for two modes, which 1×1 kernels have as cp.
    let mut found = Found::new(Alternating { starts: 1, ..Alternating::default() });
    let (mut network, mut params) = (BTreeMap::from_iter(tensors), 0);
    for (name, tensor) in &mut network {
        params += if tensor.rank() == 4 { tensor.elem_count() } else { 0 };
        let [outputs, channels, 1, 1] = *tensor.dims() else { continue };
        let Some(shape) = factors([1, channels, outputs], form)? else { continue };
        let values = tensor.reshape((outputs, channels))?.t()?.flatten_all()?.to_vec1::<f32>()?; // [C, S]
        let cores = found.near(name.trim_end_matches(".weight").to_owned(), &shape, &values)?;
        params -= values.len() - cores.elem_count();
        *tensor = ops::matrix(shape.network(), &cores)?.t()?.reshape((outputs, channels, 1, 1))?;
    }
    let Found { kernels, errors, .. } = found;
    ensure!(
        !kernels.is_empty(),
        "factors of rank {} have at least as many numbers as every 1×1 kernel: lower the rank",
        options.rank
    );
    let factorize_s = started.elapsed().as_secs_f64();
    let network = Lite0::of(&network.into_iter().collect(), Isa::best()).map_err(|reason| anyhow!(reason))?;
    let by = format!("{}, kernels {} of rank {}", features::maker(spec), options.to, options.rank);
    let (spec, clips) = features::made_by(&network, &by, spec, &frames)?;
    let start = checkpoint::load(weights)?.0.into_iter().collect();
    Ok(Twin { model: ON_FEATURES.to_owned(), spec, clips, start, errors, params, kernels, factorize_s })
}
