//! Both passes on tensors of a CUDA device.
#![expect(unsafe_code, reason = "a kernel's arguments are checked by nobody")]

use super::super::{Batch, Cell, GateActivation, Masks, Recurrence};
use super::{Pass, Plan, Record, plan, sizes, sorted, source};
use crate::error::{Error, Result, check_size};
use candle_core::cuda_backend::cudarc::driver::PushKernelArg as _;
use candle_core::{CudaDevice, Device, Tensor};
use tt_core::cuda::launch::{Kernel, alloc, multiprocessors, shared_limit, tensor, view};

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
    /// into the shared memory of the device: candle's operators take any size.
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
        let plan = plan(self.cell, hidden, clips, multiprocessors(device)?, shared_limit(device)?);
        // The kernels count rows in 32 bits.
        let Some(plan) = plan.filter(|_| i32::try_from(frames).is_ok()) else { return Ok(None) };

        let sorted = Tensor::from_vec(sorted(lengths), (clips, 3), x.device())?;
        let mask = match masks {
            Masks::None => None,
            Masks::Shared(mask) | Masks::PerGate(mask) => {
                let count = mask.len() / (clips * hidden);
                Some(Tensor::from_slice(mask, (count, clips, hidden), x.device())?)
            }
        };
        let mut last = alloc(device, clips * hidden)?;
        let mut activations = train.then(|| alloc(device, frames * layout.row())).transpose()?;
        let record = |kept: bool| kept.then(|| alloc(device, frames * hidden)).transpose();
        let (mut state, mut extra) = (record(train)?, record(train && self.cell != Cell::Rnn)?);
        let mut exchange = device.alloc_zeros::<u64>(plan.exchange(self.cell, hidden))?;
        {
            let (x, weights) = (x.contiguous()?, weights.contiguous()?);
            let (x, weights) = (x.storage_and_layout(), weights.storage_and_layout());
            let (x, weights) = (view::<f32>(&x)?, view::<f32>(&weights)?);
            let order = sorted.storage_and_layout();
            let order = view::<u32>(&order)?;
            let factors = mask.as_ref().map(Tensor::storage_and_layout);
            let factors = factors.as_ref().map(view::<f32>).transpose()?;
            let sizes = self.sizes(&plan, clips, mask.as_ref())?;
            let (train, null) = (i32::from(train), 0_u64);
            let kernel = self.load(device, &plan, Pass::Forward)?;
            let mut arguments = kernel.arguments();
            for size in &sizes {
                arguments.arg(size);
            }
            arguments.arg(&train).arg(&x).arg(&weights);
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
            arguments.arg(&mut exchange).arg(&report);
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
        let mut exchange = device.alloc_zeros::<u64>(record.plan.exchange(self.cell, hidden))?;
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
            let sizes = self.sizes(&record.plan, clips, record.mask.as_ref())?;
            let null = 0_u64;
            let kernel = self.load(device, &record.plan, Pass::Backward)?;
            let mut arguments = kernel.arguments();
            for size in &sizes {
                arguments.arg(size);
            }
            arguments.arg(&weights);
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
            arguments.arg(&dlast).arg(&mut dx).arg(&mut exchange).arg(&report);
            // SAFETY: the arguments are those of `recurrence_backward`, and the buffers have the sizes it states.
            unsafe { kernel.launch(&mut arguments)? };
        }
        Ok(tensor(device, dx, (frames, width)))
    }

    fn load(&self, device: &CudaDevice, plan: &Plan, pass: Pass) -> Result<Kernel> {
        Ok(Kernel::load(device, &source(self.cell), &plan.launch(pass))?)
    }

    fn sizes(&self, plan: &Plan, clips: usize, mask: Option<&Tensor>) -> Result<[i32; 7]> {
        let masks = mask.map_or(Ok(0), |mask| mask.dim(0))?;
        Ok(sizes(plan, self.hidden, clips, self.gate_activation, masks))
    }
}

fn cuda(tensor: &Tensor) -> Result<&CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device),
        _ => Err(Error::Unsupported("the persistent recurrence runs on CUDA alone".into())),
    }
}
