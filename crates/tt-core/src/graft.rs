//! A tensor whose value is already there and whose gradient is written by hand, on any device.
//!
//! candle's custom operators compute their value from raw storage, each device in a function of its own. Where
//! candle's operators or a kernel have already given the value as a tensor, this joins it to the graph: one node, however
//! many operators stood behind it, and no gradient for an input that wants none.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Error, InplaceOp1, Layout, MetalStorage, Result, Shape, Storage,
    Tensor,
};
use std::sync::{Mutex, PoisonError};

/// From the gradient of the value to those of the inputs.
type Backward = Box<dyn Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync>;

struct Graft {
    name: &'static str,
    /// Taken by the node.
    value: Mutex<Option<Storage>>,
    shape: Shape,
    backward: Backward,
}

/// Takes the storage out of a tensor and leaves one number behind.
struct Take(Mutex<Option<Storage>>);

impl Take {
    fn take<S>(&self, storage: &mut S, wrap: impl FnOnce(S) -> Storage) -> Result<()>
    where
        S: BackendStorage,
        S::Device: BackendDevice<Storage = S>,
    {
        let rest = storage.device().zeros_impl(&Shape::from(1), storage.dtype())?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(wrap(std::mem::replace(storage, rest)));
        Ok(())
    }
}

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        self.take(storage, Storage::Cpu)
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Result<()> {
        self.take(storage, Storage::Cuda)
    }

    fn metal_fwd(&self, storage: &mut MetalStorage, _: &Layout) -> Result<()> {
        self.take(storage, Storage::Metal)
    }
}

impl Graft {
    fn new(
        name: &'static str,
        value: Tensor,
        backward: impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
    ) -> Result<Self> {
        // What the node gives away must begin its storage.
        let whole = value.is_contiguous() && value.layout().start_offset() == 0;
        let value = if whole { value } else { value.force_contiguous()? };
        let take = Take(Mutex::new(None));
        value.inplace_op1(&take)?;
        Ok(Self { name, value: take.0, shape: value.shape().clone(), backward: Box::new(backward) })
    }

    fn value<S>(&self, unwrap: impl FnOnce(Storage) -> Option<S>) -> Result<(S, Shape)> {
        let storage = self.value.lock().unwrap_or_else(PoisonError::into_inner).take();
        match storage.and_then(unwrap) {
            Some(storage) => Ok((storage, self.shape.clone())),
            None => Err(Error::Msg(format!("{}: value and inputs are on different devices", self.name))),
        }
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        self.value(|storage| if let Storage::Cpu(storage) = storage { Some(storage) } else { None })
    }

    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        self.value(|storage| if let Storage::Cuda(storage) = storage { Some(storage) } else { None })
    }

    fn metal(&self) -> Result<(MetalStorage, Shape)> {
        self.value(|storage| if let Storage::Metal(storage) = storage { Some(storage) } else { None })
    }

    fn gradients(&self, dvalue: &Tensor) -> Result<[Option<Tensor>; 2]> {
        (self.backward)(&dvalue.detach().contiguous()?)
    }
}

/// `value` as a function of two inputs, whose gradients `backward` finds from that of the value.
///
/// The node takes the numbers of `value` over without a copy: no other tensor may share its storage.
///
/// # Errors
/// A value on another device than the inputs.
pub fn graft2(
    name: &'static str,
    value: Tensor,
    inputs: [&Tensor; 2],
    backward: impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [a, b] = inputs;
    a.apply_op2(b, Graft::new(name, value, backward)?)
}

impl CustomOp2 for Graft {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dvalue: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.gradients(dvalue)?;
        Ok((a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_gradient_is_the_one_written_by_hand() {
        let a = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
        let b = Tensor::new(&[3.0_f32, 4.0], &Device::Cpu).unwrap();
        let value = (a.detach() * &b).unwrap();
        let factor = b.clone();
        let y = graft2("product", value, [&a, &b], move |dy| Ok([Some((dy * &factor)?), None])).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [3.0, 8.0]);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [3.0, 4.0]);
        assert!(grads.get(&b).is_none());
    }

    #[test]
    fn the_numbers_are_taken_over_without_a_copy() {
        let a = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
        let value = Tensor::new(&[3.0_f32, 4.0], &Device::Cpu).unwrap();
        let address = |tensor: &Tensor| match &*tensor.storage_and_layout().0 {
            Storage::Cpu(CpuStorage::F32(values)) => values.as_ptr(),
            _ => panic!("f32 on the CPU"),
        };
        let before = address(&value);
        let y = graft2("copy", value, [&a, &a], |_| Ok([None, None])).unwrap();
        assert_eq!(address(&y), before);
    }

    #[test]
    fn a_value_may_be_a_part_of_another_tensor() {
        let a = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
        let all = Tensor::new(&[[1.0_f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        for (part, expected) in
            [(all.t().unwrap().narrow(0, 0, 1), [1.0, 3.0]), (all.narrow(0, 1, 1), [3.0, 4.0])]
        {
            let y = graft2("part", part.unwrap(), [&a, &a], |_| Ok([None, None])).unwrap();
            assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        }
    }
}
