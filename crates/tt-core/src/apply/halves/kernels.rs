//! The kernels on CUDA tensors.
#![expect(unsafe_code, reason = "nothing checks a kernel's arguments")]

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, PushKernelArg as _};
use candle_core::{CudaDevice, DType, Device, Result, Tensor, bail};

use super::{Cut, Digits, Forward, Geometry, geometry, proof};
use crate::apply::Precision;
use crate::cuda::Launch;
use crate::cuda::launch::{
    Kernel, alloc, capability, has_tensor_products, multiprocessors, shared_limit, tensor, view,
};

/// The kernels of one cut on one device.
pub(super) struct Kernels<'a> {
    cut: &'a Cut,
    precision: Precision,
    geometry: Geometry,
    device: &'a CudaDevice,
}

impl<'a> Kernels<'a> {
    /// The kernels, if they take frames and numbers of these types on this device and the right half fits.
    pub(super) fn find(
        cut: &'a Cut,
        precision: Precision,
        x: &'a Tensor,
        numbers: &Tensor,
    ) -> Result<Option<Self>> {
        match x.device() {
            Device::Cuda(device) if x.dtype() == DType::U8 && numbers.dtype() == DType::F32 => {
                Self::on(cut, precision, device)
            }
            _ => Ok(None),
        }
    }

    /// The kernels, if they run on this device and the right half fits.
    pub(super) fn on(cut: &'a Cut, precision: Precision, device: &'a CudaDevice) -> Result<Option<Self>> {
        if !has_tensor_products(device)? {
            return Ok(None);
        }
        let geometry = Geometry::new(*cut, precision, shared_limit(device)?);
        Ok(geometry.map(|geometry| Self { cut, precision, geometry, device }))
    }

    /// The name of the kernel of the forward pass.
    pub(super) fn name(&self) -> Result<&'static str> {
        Ok(self.pass(1)?.launch.kernel)
    }

    /// `y [n, N]`, and T `[n, N_R, r, M_L]` to save.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        right: &Tensor,
        left: &Tensor,
        save: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        self.run(&self.pass(x.dim(0)?)?, x, right, left, save)
    }

    /// The same by a kernel.
    fn run(
        &self,
        pass: &Forward,
        x: &Tensor,
        right: &Tensor,
        left: &Tensor,
        save: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (cut, frames) = (self.cut, x.dim(0)?);
        let (outputs, parts) = (frames * cut.outputs(), pass.parts);
        let (number, null) = (counted(frames)?, 0_u64);
        let halves = self.prepare(pass, right, left)?;
        let x = aligned_to(x, pass.alignment)?;
        let x = x.storage_and_layout();
        let x = view::<u8>(&x)?;
        let mut y = alloc(self.device, parts * outputs)?;
        let mut between = save.then(|| alloc(self.device, frames * cut.between())).transpose()?;
        let kernel = Kernel::load(self.device, &pass.source, &pass.launch)?;
        {
            let mut arguments = kernel.arguments();
            arguments.arg(&x).arg(&halves).arg(&mut y);
            match &mut between {
                Some(between) => arguments.arg(between),
                None => arguments.arg(&null),
            };
            arguments.arg(&number);
            let report = pass.waits.then(|| kernel.report()).transpose()?;
            if let Some(report) = &report {
                arguments.arg(report);
            }
            // SAFETY: the arguments are those of a forward kernel, and the tensors have the sizes of the cut.
            unsafe { kernel.launch(&mut arguments)? };
        }
        if parts > 1 {
            y = self.sum(&y, outputs, parts)?;
        }
        let between = between.map(|values| {
            tensor(self.device, values, (frames, cut.right_outputs, cut.rank, cut.left_inputs))
        });
        Ok((tensor(self.device, y, (frames, cut.outputs())), between))
    }

    /// The forward pass of so many frames, by the kernel that is chosen.
    fn pass(&self, frames: usize) -> Result<Forward> {
        let (device, multiprocessors) = (self.device, multiprocessors(self.device)?);
        let named = std::env::var_os(Digits::VARIABLE);
        let named = named.as_ref().map(|name| name.to_string_lossy());
        let (capability, shared) = (capability(device)?, shared_limit(device)?);
        let digits = Digits::choose(*self.cut, self.precision, capability, shared, named.as_deref());
        Ok(match digits.map_err(candle_core::Error::wrap)? {
            Some(digits) if digits_agree(device)? => digits.forward(frames, multiprocessors),
            Some(_) if named.as_deref() == Some("digits") => {
                bail!("the forward pass by digits errs on this card (TT_CUDA=f16 takes the other)")
            }
            _ => self.geometry.forward(frames, multiprocessors),
        })
    }

    /// Both halves as the kernel reads them.
    fn prepare(&self, pass: &Forward, right: &Tensor, left: &Tensor) -> Result<CudaSlice<f32>> {
        let numbers = [right.elem_count(), left.elem_count(), pass.halves];
        numbers.into_iter().try_for_each(|count| counted(count).map(|_| ()))?;
        let (right, left) = (right.contiguous()?, left.contiguous()?);
        let (right, left) = (right.storage_and_layout(), left.storage_and_layout());
        let (right, left) = (view::<f32>(&right)?, view::<f32>(&left)?);
        let mut halves = alloc(self.device, pass.halves)?;
        let kernel = Kernel::load(self.device, &pass.source, &pass.prepare)?;
        let mut arguments = kernel.arguments();
        arguments.arg(&right).arg(&left).arg(&mut halves);
        // SAFETY: the arguments are those of both kernels that prepare, and the tensors have the sizes of the cut.
        unsafe { kernel.launch(&mut arguments)? };
        Ok(halves)
    }

    /// Gradient of the left half, `[r, N_L, M_L]`, from T and the gradient of y.
    pub(super) fn left_gradient(&self, between: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let (cut, frames, multiprocessors) = (self.cut, dy.dim(0)?, multiprocessors(self.device)?);
        let (between, dy) = (aligned_to(between, 4)?, dy.contiguous()?);
        let (between, dy) = (between.storage_and_layout(), dy.storage_and_layout());
        let (between, dy) = (view::<f32>(&between)?, view::<f32>(&dy)?);
        let count = cut.left_outputs * cut.rank * cut.left_inputs;
        let parts = self.geometry.left_parts(frames, multiprocessors);
        let mut partial = alloc(self.device, parts * count)?;
        let kernel = self.load(&self.geometry.left_gradient(frames, multiprocessors))?;
        let number = counted(frames)?;
        {
            let mut arguments = kernel.arguments();
            arguments.arg(&between).arg(&dy).arg(&mut partial).arg(&number);
            // SAFETY: the arguments are those of `left_gradient`, and the tensors have the sizes of the cut.
            unsafe { kernel.launch(&mut arguments)? };
        }
        let sum = self.sum(&partial, count, parts)?;
        tensor(self.device, sum, (cut.left_outputs, cut.rank, cut.left_inputs)).transpose(0, 1)?.contiguous()
    }

    /// Gradient of the right half, `[M_R, r N_R]`, from that of T.
    pub(super) fn right_gradient(&self, x: &Tensor, dbetween: &Tensor) -> Result<Tensor> {
        let (frames, multiprocessors) = (x.dim(0)?, multiprocessors(self.device)?);
        let (x, dbetween) = (aligned_to(x, self.geometry.alignment())?, aligned_to(dbetween, 4)?);
        let (x, dbetween) = (x.storage_and_layout(), dbetween.storage_and_layout());
        let (x, dbetween) = (view::<u8>(&x)?, view::<f32>(&dbetween)?);
        let count = self.cut.right_columns() * self.cut.right_inputs;
        let parts = self.geometry.gradient_parts(frames, multiprocessors);
        let mut partial = alloc(self.device, parts * count)?;
        let kernel = self.load(&self.geometry.gradient(frames, multiprocessors))?;
        let number = counted(frames)?;
        {
            let mut arguments = kernel.arguments();
            arguments.arg(&x).arg(&dbetween).arg(&mut partial).arg(&number);
            // SAFETY: the arguments are those of `pixel_gradient`, and the tensors have the sizes of the cut.
            unsafe { kernel.launch(&mut arguments)? };
        }
        let sum = self.sum(&partial, count, parts)?;
        tensor(self.device, sum, (self.cut.right_columns(), self.cut.right_inputs)).t()?.contiguous()
    }

    /// The parts, `count` numbers each, added in their order.
    fn sum(&self, parts: &CudaSlice<f32>, count: usize, number: usize) -> Result<CudaSlice<f32>> {
        let mut sum = alloc(self.device, count)?;
        let kernel = self.load(&Geometry::sum(count))?;
        let (count, number) = (counted(count)?, counted(number)?);
        let mut arguments = kernel.arguments();
        arguments.arg(parts).arg(&mut sum).arg(&count).arg(&number);
        // SAFETY: the arguments are those of `sum_parts`, `parts` of `number * count` numbers.
        unsafe { kernel.launch(&mut arguments)? };
        Ok(sum)
    }

    fn load(&self, launch: &Launch) -> Result<Kernel> {
        Kernel::load(self.device, &self.geometry.source(), launch)
    }
}

/// Whether the forward pass by digits does on this card what it should: tried once in a process, since it was written where no
/// card was.
fn digits_agree(device: &CudaDevice) -> Result<bool> {
    static AGREE: LazyLock<Mutex<HashMap<DeviceId, bool>>> = LazyLock::new(Mutex::default);
    let mut agree = AGREE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = agree.get(&device.id()) {
        return Ok(*known);
    }
    let (precision, shared) = (Precision::F32, shared_limit(device)?);
    let agrees = proof::agrees(&Device::Cuda(device.clone()), |cut, x, right, left| {
        let geometries = Geometry::new(*cut, precision, shared).zip(Digits::new(*cut, shared));
        let Some((geometry, digits)) = geometries else { bail!("no room for a small product") };
        let kernels = Kernels { cut, precision, geometry, device };
        // One multiprocessor: a warp has several turns.
        let (y, between) = kernels.run(&digits.forward(x.dim(0)?, 1), x, right, left, true)?;
        match between {
            Some(between) => Ok([y, between]),
            None => bail!("no T from a pass that was to save it"),
        }
    })?;
    if !agrees {
        tracing::warn!("the forward pass by digits errs on this card: the one in f16 runs instead");
    }
    agree.insert(device.id(), agrees);
    Ok(agrees)
}

/// A contiguous tensor that begins at a multiple of so many of its numbers: memory itself begins at multiples of 256 bytes.
fn aligned_to(tensor: &Tensor, numbers: usize) -> Result<Tensor> {
    if tensor.is_contiguous() && tensor.layout().start_offset().is_multiple_of(numbers) {
        Ok(tensor.clone())
    } else {
        tensor.force_contiguous()
    }
}

fn counted(count: usize) -> Result<i32> {
    geometry::counted(count).map_err(candle_core::Error::wrap)
}
