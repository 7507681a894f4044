//! A tensor whose value is already there and whose gradient is written by hand, on any device.
//!
//! candle's custom operators compute their value from raw storage, each device in a function of its own. Where
//! candle's operators or a kernel already gave the value as a tensor, this joins it to the graph: one node, however
//! many operators stood behind it, and no gradient for an input that wants none.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Error, Layout, MetalStorage, Result, Shape, Storage,
    Tensor,
};

/// From the gradient of the value to those of the inputs.
type Backward<const N: usize> = Box<dyn Fn(&Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync>;

struct Graft<const N: usize> {
    name: &'static str,
    value: Tensor,
    backward: Backward<N>,
}

impl<const N: usize> Graft<N> {
    fn new(
        name: &'static str,
        value: &Tensor,
        backward: impl Fn(&Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
    ) -> Result<Self> {
        // What the node gives away must begin its storage.
        let whole = value.is_contiguous() && value.layout().start_offset() == 0;
        let value = if whole { value.detach() } else { value.detach().force_contiguous()? };
        Ok(Self { name, value, backward: Box::new(backward) })
    }

    fn storage(&self) -> Result<(Storage, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        let copy = storage.try_clone(layout)?;
        Ok((copy, self.value.shape().clone()))
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.storage()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => Err(self.elsewhere()),
        }
    }

    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.storage()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => Err(self.elsewhere()),
        }
    }

    fn metal(&self) -> Result<(MetalStorage, Shape)> {
        match self.storage()? {
            (Storage::Metal(storage), shape) => Ok((storage, shape)),
            _ => Err(self.elsewhere()),
        }
    }

    fn elsewhere(&self) -> Error {
        Error::Msg(format!("{}: value and inputs are on different devices", self.name))
    }

    fn gradients(&self, dvalue: &Tensor) -> Result<[Option<Tensor>; N]> {
        (self.backward)(&dvalue.detach().contiguous()?)
    }
}

/// `value` as a function of `input`, whose gradient `backward` finds from that of the value.
///
/// # Errors
/// A value on another device than the input.
pub fn graft1(
    name: &'static str,
    value: &Tensor,
    input: &Tensor,
    backward: impl Fn(&Tensor) -> Result<[Option<Tensor>; 1]> + Send + Sync + 'static,
) -> Result<Tensor> {
    input.apply_op1(Graft::new(name, value, backward)?)
}

/// `value` as a function of two inputs; see [`graft1`].
///
/// # Errors
/// A value on another device than the inputs.
pub fn graft2(
    name: &'static str,
    value: &Tensor,
    inputs: [&Tensor; 2],
    backward: impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [a, b] = inputs;
    a.apply_op2(b, Graft::new(name, value, backward)?)
}

impl CustomOp1 for Graft<1> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dvalue: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.gradients(dvalue)?;
        Ok(a)
    }
}

impl CustomOp2 for Graft<2> {
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
        let y = graft2("product", &value, [&a, &b], move |dy| Ok([Some((dy * &factor)?), None])).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [3.0, 8.0]);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [3.0, 4.0]);
        assert!(grads.get(&b).is_none());
    }

    #[test]
    fn a_value_may_be_a_part_of_another_tensor() {
        let a = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
        let all = Tensor::new(&[[1.0_f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        for (part, expected) in
            [(all.narrow(0, 1, 1), [3.0, 4.0]), (all.t().unwrap().narrow(0, 0, 1), [1.0, 3.0])]
        {
            let y = graft1("part", &part.unwrap(), &a, |_| Ok([None])).unwrap();
            assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        }
    }
}
