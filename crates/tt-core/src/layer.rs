//! The TT layer as a candle operation.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Storage, Tensor};

use crate::apply::{
    Affine, Backend, Fused, Path, Precision, Row, Rows, Saved, check, halves, ops, reference,
};
use crate::simd::Pool;
use crate::{Error, Result, TtShape};

/// `y = (scale * x + shift) W` with W in Tensor-Train form, on the backend of choice.
#[derive(Debug, Clone)]
pub struct TtOperator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shape: TtShape,
    affine: Affine,
    backend: Backend,
    precision: Precision,
    fused: Fused,
    saved: Pool<Saved>,
}

impl TtOperator {
    /// The layer of a shape; the cores are given with each call.
    pub fn new(shape: &TtShape, affine: Affine, backend: Backend) -> Self {
        Self::with_precision(shape, affine, backend, Precision::F32)
    }

    /// The same with products of another precision, where the backend has kernels for it.
    pub fn with_precision(shape: &TtShape, affine: Affine, backend: Backend, precision: Precision) -> Self {
        let fused = Fused::on(shape, affine, backend.path().unwrap_or(Path::Automatic));
        let inner = Inner { shape: shape.clone(), affine, backend, precision, fused, saved: Pool::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The shape of W.
    pub fn shape(&self) -> &TtShape {
        &self.inner.shape
    }

    /// Applies the layer; differentiable with respect to the cores, and to `x` where it is tracked.
    ///
    /// # Shapes
    /// `x [.., M]` in u8 or f32, `cores [L]` in f32, result `[.., N]` in f32. [`Backend::Ops`] takes any
    /// floating-point type; it and, away from the CPU, [`Backend::Fused`] take every device, the others the CPU alone.
    ///
    /// # Errors
    /// [`Error::Size`] if a tensor does not fit; [`Error::Unavailable`] for a device or type that the backend
    /// cannot handle.
    pub fn forward(&self, x: &Tensor, cores: &Tensor) -> Result<Tensor> {
        let shape = self.shape();
        let (leading, columns) = match x.dims() {
            [leading @ .., columns] => (leading, *columns),
            [] => (&[][..], 0),
        };
        let rows: usize = leading.iter().product();
        check("input columns", columns, shape.in_features())?;
        check("cores", cores.elem_count(), shape.params())?;
        if rows == 0 {
            return Err(Error::Size { what: "rows", expected: "at least 1".into(), found: "0".into() });
        }
        let x = x.reshape((rows, columns))?;
        let Inner { affine, backend, precision, .. } = *self.inner;
        let y = match backend {
            Backend::Ops => ops::forward(shape, affine, &x, cores)?,
            Backend::Fused if !x.device().is_cpu() => halves::forward(shape, affine, precision, &x, cores)?,
            _ => self.custom(&x, cores)?,
        };
        let mut dims = leading.to_vec();
        dims.push(shape.out_features());
        Ok(y.reshape(dims)?) // [.., N]
    }

    fn custom(&self, x: &Tensor, cores: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() || !cores.device().is_cpu() {
            return Err(Error::Unavailable(format!(
                "the {:?} backend away from the CPU",
                self.inner.backend
            )));
        }
        if cores.dtype() != DType::F32 || !matches!(x.dtype(), DType::U8 | DType::F32) {
            let types = format!("{:?} input and {:?} cores", x.dtype(), cores.dtype());
            return Err(Error::Unavailable(format!("the {:?} backend for {types}", self.inner.backend)));
        }
        let with_x = x.track_op();
        let save = with_x || cores.track_op();
        let saved = Mutex::new(self.inner.saved.take());
        let op = Op { layer: Arc::clone(&self.inner), with_x, save, saved };
        Ok(x.contiguous()?.apply_op2(&cores.contiguous()?, op)?)
    }
}

/// One application, with what its backward pass needs.
struct Op {
    layer: Arc<Inner>,
    with_x: bool,
    save: bool,
    saved: Mutex<Saved>,
}

impl Drop for Op {
    fn drop(&mut self) {
        let saved = std::mem::take(self.saved.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.layer.saved.give(saved);
    }
}

impl Op {
    /// The reference backend's input in f64, after the affine map.
    fn mapped(&self, rows: Rows) -> Result<Vec<f64>> {
        let affine = self.layer.affine;
        let map = |p: f64| f64::from(affine.scale) * p + f64::from(affine.shift);
        let width = self.layer.shape.in_features();
        let mut all = Vec::with_capacity(rows.len());
        for at in 0..rows.count(width)? {
            match rows.row(at, width) {
                Row::U8(values) => all.extend(values.iter().map(|&p| map(f64::from(p)))),
                Row::F32(values) => all.extend(values.iter().map(|&p| map(f64::from(p)))),
            }
        }
        Ok(all)
    }

    fn forward(&self, rows: Rows, cores: &[f32]) -> Result<Vec<f32>> {
        let shape = &self.layer.shape;
        if self.layer.backend == Backend::Reference {
            return Ok(narrow(&reference::forward(shape, &self.mapped(rows)?, &wide(cores))?));
        }
        let mut out = vec![0.0; rows.len() / shape.in_features() * shape.out_features()];
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        self.layer.fused.forward(rows, cores, &mut out, self.save.then_some(&mut saved))?;
        Ok(out)
    }

    fn backward(&self, rows: Rows, cores: &[f32], dout: &[f32]) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        if self.layer.backend == Backend::Reference {
            let x = self.mapped(rows)?;
            let grads = reference::backward(&self.layer.shape, &x, &wide(cores), &wide(dout))?;
            let scale = f64::from(self.layer.affine.scale);
            let dx: Vec<f64> = grads.x.iter().map(|v| scale * v).collect();
            return Ok((narrow(&grads.cores), self.with_x.then(|| narrow(&dx))));
        }
        let mut dcores = vec![0.0; cores.len()];
        let mut dx = self.with_x.then(|| vec![0.0; rows.len()]);
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        self.layer.fused.backward(rows, cores, &saved, dout, &mut dcores, dx.as_deref_mut())?;
        Ok((dcores, dx))
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// The numbers of a contiguous tensor.
fn part<'a, T>(values: &'a [T], layout: &Layout) -> candle_core::Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => candle_core::bail!("tt-linear needs contiguous tensors"),
    }
}

fn rows<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Rows<'a>> {
    match storage {
        CpuStorage::U8(values) => Ok(Rows::U8(part(values, layout)?)),
        CpuStorage::F32(values) => Ok(Rows::F32(part(values, layout)?)),
        _ => candle_core::bail!("tt-linear takes u8 or f32 rows"),
    }
}

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match storage {
        CpuStorage::F32(values) => part(values, layout),
        _ => candle_core::bail!("tt-linear takes f32 cores"),
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "tt-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        cores: &CpuStorage,
        cores_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (rows, cores) = (rows(x, x_layout)?, floats(cores, cores_layout)?);
        let out = self.forward(rows, cores).map_err(candle_core::Error::wrap)?;
        let columns = self.layer.shape.out_features();
        let shape = Shape::from((out.len() / columns, columns));
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        cores: &Tensor,
        _: &Tensor,
        dout: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dout = dout.contiguous()?;
        let (dcores, dx) = {
            let (x_storage, x_layout) = x.storage_and_layout();
            let (cores_storage, cores_layout) = cores.storage_and_layout();
            let (dout_storage, dout_layout) = dout.storage_and_layout();
            let (Storage::Cpu(x), Storage::Cpu(cores), Storage::Cpu(dout)) =
                (&*x_storage, &*cores_storage, &*dout_storage)
            else {
                candle_core::bail!("tt-linear was applied on the CPU");
            };
            let (rows, cores) = (rows(x, x_layout)?, floats(cores, cores_layout)?);
            let dout = floats(dout, dout_layout)?;
            self.backward(rows, cores, dout).map_err(candle_core::Error::wrap)?
        };
        let dx = dx.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        Ok((dx, Some(Tensor::from_vec(dcores, cores.shape(), cores.device())?)))
    }
}
