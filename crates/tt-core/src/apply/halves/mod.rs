//! The TT layer from u8 frames through two halves of the train: the backend for CUDA.
//!
//! The train is cut at one bond ([`Cut`]) and each half multiplied out, by candle operators, because that is little
//! work and candle knows its gradient. What is left is two matrix products per frame: one kernel does both,
//! so that what lies between them never leaves the chip, and two more compute the gradients of the halves. Where there is
//! no kernel (another device, sizes that do not fit), candle operators do the same.
//!
//! The map `scale * p + shift` costs nothing: the scale goes into the right half, and the shift is a constant row.

mod cut;
mod digits;
mod forward;
mod geometry;
#[cfg(feature = "cuda")]
mod kernels;
mod merge;
mod product;
#[cfg(any(test, feature = "cuda"))]
mod proof;

use candle_core::{DType, Device, Tensor};

use super::{Affine, Backend, Precision, check, ops};
use crate::graft::graft2;
use crate::{Error, Result, TtShape};

pub use self::cut::Cut;
pub use self::digits::Digits;
pub use self::forward::Forward;
pub use self::geometry::Geometry;

/// `y = (scale * x + shift) W`, differentiable with respect to the cores.
///
/// # Shapes
/// `x [n, M]` in u8, `cores [L]`, result `[n, N]` in the type of the cores. Rows of another type go to
/// [`ops::forward`], which knows their gradient too.
///
/// # Errors
/// [`Error::Size`] if the tensors do not fit the shape or there is no row.
pub fn forward(
    shape: &TtShape,
    affine: Affine,
    precision: Precision,
    x: &Tensor,
    cores: &Tensor,
) -> Result<Tensor> {
    if x.dtype() != DType::U8 {
        return ops::forward(shape, affine, x, cores);
    }
    check("cores", cores.elem_count(), shape.params())?;
    match x.dims() {
        [rows, columns] if *rows > 0 && *columns == shape.in_features() => {}
        other => {
            return Err(Error::Size {
                what: "rows",
                expected: format!("[n >= 1, {}]", shape.in_features()),
                found: format!("{other:?}"),
            });
        }
    }
    let cut = Cut::cheapest(shape);
    let (right, left) = (merge::right(shape, &cut, cores)?, merge::left(shape, &cut, cores)?);
    let scaled = if affine.scale == 1.0 { right.clone() } else { (&right * f64::from(affine.scale))? };
    let y = halves(cut, precision, &x.contiguous()?, &scaled, &left)?;
    if affine.shift == 0.0 {
        return Ok(y);
    }
    let constant = (merge::ones(&cut, &right, &left)? * f64::from(affine.shift))?;
    Ok(y.broadcast_add(&constant)?)
}

/// What multiplies rows of bytes on a device that is no CPU: the name of the kernel, or `ops` for candle's operators.
///
/// # Errors
/// [`Error::Candle`] for a kernel that [`Digits::VARIABLE`] names and the device has not.
pub fn kernels_for_bytes(shape: &TtShape, precision: Precision, device: &Device) -> Result<String> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device
        && let Some(kernels) = kernels::Kernels::on(&Cut::cheapest(shape), precision, device)?
    {
        return Ok(kernels.name()?.to_owned());
    }
    let _ = (shape, precision, device);
    Ok(Backend::Ops.to_string())
}

/// `y [n, N]` from frames and halves, joined to the graph if one of the halves wants a gradient.
fn halves(cut: Cut, precision: Precision, x: &Tensor, right: &Tensor, left: &Tensor) -> Result<Tensor> {
    let save = right.track_op() || left.track_op();
    let (fixed_right, fixed_left) = (right.detach(), left.detach());
    let (y, between) = forward_product(&cut, precision, x, &fixed_right, &fixed_left, save)?;
    let Some(between) = between.filter(|_| save) else { return Ok(y) };
    let x = x.clone();
    Ok(graft2("tt-halves", y, [right, left], move |dy| {
        let dleft = left_gradient(&cut, precision, &x, &between, dy)?;
        let dbetween = product::between_gradient(&cut, &fixed_left, dy)?;
        Ok([Some(right_gradient(&cut, precision, &x, &dbetween)?), Some(dleft)])
    })?)
}

fn forward_product(
    cut: &Cut,
    precision: Precision,
    x: &Tensor,
    right: &Tensor,
    left: &Tensor,
    save: bool,
) -> candle_core::Result<(Tensor, Option<Tensor>)> {
    #[cfg(feature = "cuda")]
    if let Some(kernels) = kernels::Kernels::find(cut, precision, x, right)? {
        return kernels.forward(x, right, left, save);
    }
    // Without kernels there is one precision.
    let _ = (precision, save);
    let (y, between) = product::forward(cut, x, right, left)?;
    Ok((y, Some(between)))
}

fn left_gradient(
    cut: &Cut,
    precision: Precision,
    x: &Tensor,
    between: &Tensor,
    dy: &Tensor,
) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(kernels) = kernels::Kernels::find(cut, precision, x, between)? {
        return kernels.left_gradient(between, dy);
    }
    let _ = (precision, x);
    product::left_gradient(cut, between, dy)
}

fn right_gradient(
    cut: &Cut,
    precision: Precision,
    x: &Tensor,
    dbetween: &Tensor,
) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(kernels) = kernels::Kernels::find(cut, precision, x, dbetween)? {
        return kernels.right_gradient(x, dbetween);
    }
    let _ = precision;
    product::right_gradient(cut, x, dbetween)
}
