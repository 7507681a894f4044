//! Both passes on tensors of a CUDA device.
#![expect(unsafe_code, reason = "a kernel's arguments are checked by nobody")]

use super::super::{Batch, Cell, GateActivation, Masks, Recurrence};
use super::plan::CLUSTER;
use super::{Card, Pass, Plan, Record, plan, sorted, source};
use crate::error::{Error, Result, check_size};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, PushKernelArg as _};
use candle_core::{CudaDevice, Device, Tensor};
use tt_core::cuda::launch::{Kernel, alloc, has_clusters, multiprocessors, shared_limit, tensor, view};

/// A recurrence by the persistent kernels; holds no weights.
#[derive(Clone, Copy, Debug)]
pub struct Persistent {
    /// The cell.
    pub cell: Cell,
    /// The squashing of its gates.
    pub gate_activation: GateActivation,
    /// H
    pub hidden: usize,
}

impl Persistent {
    /// Last states `[B, H]` and, in training, what [`Persistent::backward`] wants; `None` if the weights do not fit
    /// into the registers of the device: candle's operators take any size.
    ///
    /// Nothing here is tracked for gradients, and nothing waits for the device.
    ///
    /// # Shapes
    /// `x [sum T_b, G·H]` without bias, `weights` `[U (H × G·H) | b (G·H)]` flat, both f32 on one CUDA device.
    ///
    /// # Errors
    /// An empty batch, a clip without frames, sizes that do not fit, tensors elsewhere, or the device's own error.
    pub fn forward(
        &self,
        x: &Tensor,
        weights: &Tensor,
        lengths: &[usize],
        masks: Masks<'_>,
        train: bool,
    ) -> Result<Option<(Tensor, Option<Record>)>> {
        let layout = Recurrence::new(self.cell, self.gate_activation, self.hidden).layout;
        Batch { masks, ..Batch::new(lengths) }.check(layout.hidden, layout.gates)?;
        let (clips, hidden, frames) = (lengths.len(), self.hidden, lengths.iter().sum::<usize>());
        check_size("pre-activations", frames * layout.row(), x.elem_count())?;
        check_size("recurrent weights", layout.weights(), weights.elem_count())?;
        let device = cuda(x)?;
        let count = match masks {
            Masks::None => 0,
            Masks::Shared(mask) | Masks::PerGate(mask) => mask.len() / (clips * hidden),
        };
        // The kernels count rows in 32 bits.
        let plan = if i32::try_from(frames).is_ok() { self.plan(device, clips, count)? } else { None };
        let Some(plan) = plan else { return Ok(None) };

        let sorted = Tensor::from_vec(sorted(lengths), (clips, 3), x.device())?;
        let mask = match masks {
            Masks::None => None,
            Masks::Shared(mask) | Masks::PerGate(mask) => {
                Some(Tensor::from_slice(mask, (count, clips, hidden), x.device())?)
            }
        };
        let mut last = alloc(device, clips * hidden)?;
        let mut activations = train.then(|| alloc(device, frames * layout.row())).transpose()?;
        let record = |kept: bool| kept.then(|| alloc(device, frames * hidden)).transpose();
        let (mut state, mut extra) = (record(train)?, record(train && self.cell != Cell::Rnn)?);
        let mut exchange = self.exchange(device, &plan)?;
        {
            let (x, weights) = (x.contiguous()?, weights.contiguous()?);
            let (x, weights) = (x.storage_and_layout(), weights.storage_and_layout());
            let (x, weights) = (view::<f32>(&x)?, view::<f32>(&weights)?);
            let order = sorted.storage_and_layout();
            let order = view::<u32>(&order)?;
            let factors = mask.as_ref().map(Tensor::storage_and_layout);
            let factors = factors.as_ref().map(view::<f32>).transpose()?;
            let (clips, null) = (clips as i32, 0_u64);
            let kernel = self.load(device, &plan, count, Pass::Forward)?;
            let mut arguments = kernel.arguments();
            arguments.arg(&clips).arg(&x).arg(&weights);
            match &factors {
                Some(factors) => arguments.arg(factors),
                None => arguments.arg(&null),
            };
            arguments.arg(&order).arg(&mut last);
            match &mut activations {
                Some(activations) => arguments.arg(activations),
                None => arguments.arg(&null),
            };
            match &mut state {
                Some(state) => arguments.arg(state),
                None => arguments.arg(&null),
            };
            match &mut extra {
                Some(extra) => arguments.arg(extra),
                None => arguments.arg(&null),
            };
            let report = kernel.report()?;
            match &mut exchange {
                Some(exchange) => arguments.arg(exchange),
                None => arguments.arg(&null),
            };
            arguments.arg(&report);
            // SAFETY: the arguments are those of `recurrence_forward`, and the buffers have the sizes it states.
            unsafe { kernel.launch(&mut arguments)? };
        }
        let last = tensor(device, last, (clips, hidden));
        let record = activations.zip(state).map(|(activations, state)| Record {
            activations: tensor(device, activations, (frames, layout.row())),
            hidden: tensor(device, state, (frames, hidden)),
            extra: extra.map(|extra| tensor(device, extra, (frames, hidden))),
            mask,
            lengths: lengths.to_vec(),
            sorted,
            plan,
        });
        Ok(Some((last, record)))
    }

    /// Gradient of the pre-activations, `[sum T_b, G·H]`, from that of the last states, `dlast [B, H]`; the one of
    /// the weights follows from it by [`Record::weight_gradient`].
    ///
    /// # Errors
    /// Sizes that do not fit, tensors elsewhere, or the device's own error.
    pub fn backward(&self, record: &Record, weights: &Tensor, dlast: &Tensor) -> Result<Tensor> {
        let (clips, hidden) = (record.lengths.len(), self.hidden);
        let width = self.cell.gates() * hidden;
        let frames = record.lengths.iter().sum::<usize>();
        check_size("recurrent weights", (hidden + 1) * width, weights.elem_count())?;
        check_size("gradient of the last states", clips * hidden, dlast.elem_count())?;
        check_size("activations", frames * width, record.activations.elem_count())?;
        let device = cuda(dlast)?;
        let mut dx = alloc(device, frames * width)?;
        let mut exchange = self.exchange(device, &record.plan)?;
        {
            let (weights, dlast) = (weights.contiguous()?, dlast.contiguous()?);
            let (weights, dlast) = (weights.storage_and_layout(), dlast.storage_and_layout());
            let (weights, dlast) = (view::<f32>(&weights)?, view::<f32>(&dlast)?);
            let order = record.sorted.storage_and_layout();
            let order = view::<u32>(&order)?;
            let factors = record.mask.as_ref().map(Tensor::storage_and_layout);
            let factors = factors.as_ref().map(view::<f32>).transpose()?;
            let (activations, state) =
                (record.activations.storage_and_layout(), record.hidden.storage_and_layout());
            let (activations, state) = (view::<f32>(&activations)?, view::<f32>(&state)?);
            let extra = record.extra.as_ref().map(Tensor::storage_and_layout);
            let extra = extra.as_ref().map(view::<f32>).transpose()?;
            let (clips, null) = (clips as i32, 0_u64);
            let masks = record.mask.as_ref().map_or(Ok(0), |mask| mask.dim(0))?;
            let kernel = self.load(device, &record.plan, masks, Pass::Backward)?;
            let mut arguments = kernel.arguments();
            arguments.arg(&clips).arg(&weights);
            match &factors {
                Some(factors) => arguments.arg(factors),
                None => arguments.arg(&null),
            };
            arguments.arg(&order).arg(&activations).arg(&state);
            match &extra {
                Some(extra) => arguments.arg(extra),
                None => arguments.arg(&null),
            };
            let report = kernel.report()?;
            arguments.arg(&dlast).arg(&mut dx);
            match &mut exchange {
                Some(exchange) => arguments.arg(exchange),
                None => arguments.arg(&null),
            };
            arguments.arg(&report);
            // SAFETY: the arguments are those of `recurrence_backward`, and the buffers have the sizes it states.
            unsafe { kernel.launch(&mut arguments)? };
        }
        Ok(tensor(device, dx, (frames, width)))
    }

    /// How `clips` clips are dealt; asks the driver how many clusters run at once.
    fn plan(&self, device: &CudaDevice, clips: usize, masks: usize) -> Result<Option<Plan>> {
        let processors = multiprocessors(device)?;
        let clusters = if has_clusters(device)? { processors / CLUSTER } else { 0 };
        let mut card = Card { processors, shared_bytes: shared_limit(device)?, clusters };
        loop {
            let plan = plan(self.cell, self.hidden, clips, &card);
            let Some(dealt) = plan.filter(|plan| plan.cluster) else { return Ok(plan) };
            let mut most = usize::MAX;
            for pass in [Pass::Forward, Pass::Backward] {
                most = most.min(self.load(device, &dealt, masks, pass)?.clusters()?);
            }
            if most >= dealt.groups {
                return Ok(plan);
            }
            card.clusters = most;
        }
    }

    /// What the blocks of a plan exchange their numbers through; nothing in clusters.
    fn exchange(&self, device: &CudaDevice, plan: &Plan) -> Result<Option<CudaSlice<u64>>> {
        let words = plan.exchange(self.cell, self.hidden);
        Ok((words > 0).then(|| device.alloc_zeros(words)).transpose()?)
    }

    fn load(&self, device: &CudaDevice, plan: &Plan, masks: usize, pass: Pass) -> Result<Kernel> {
        let source = source(self.cell, self.hidden, self.gate_activation, masks, plan);
        Ok(Kernel::load(device, &source, &plan.launch(pass))?)
    }
}

fn cuda(tensor: &Tensor) -> Result<&CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device),
        _ => Err(Error::Unsupported("the persistent recurrence runs on CUDA alone".into())),
    }
}
