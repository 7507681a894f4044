//! The product of frames with the two halves and its gradients in candle operators: the specification of the
//! kernels, and what runs where they do not.

use candle_core::Tensor;

use super::Cut;

type Result<T> = candle_core::Result<T>;

/// `y [n, N]` and T `[r, n, N_R, M_L]`.
pub(super) fn forward(cut: &Cut, x: &Tensor, right: &Tensor, left: &Tensor) -> Result<(Tensor, Tensor)> {
    let frames = x.dim(0)?;
    let between = rows(cut, x, right)?.matmul(right)?;
    let between = between.reshape((frames, cut.left_inputs, cut.rank, cut.right_outputs))?;
    let between = between.permute((2, 0, 3, 1))?.contiguous()?;
    let flat = between.reshape((cut.rank, frames * cut.right_outputs, cut.left_inputs))?;
    let y = flat.matmul(&left.transpose(1, 2)?.contiguous()?)?.sum(0)?; // [n N_R, N_L]
    let y = y.reshape((frames, cut.right_outputs, cut.left_outputs))?.transpose(1, 2)?;
    Ok((y.reshape((frames, cut.outputs()))?, between))
}

/// The gradient of y as one matrix for every rank, `[r, n N_R, N_L]`.
fn output_gradient(cut: &Cut, dy: &Tensor) -> Result<Tensor> {
    let frames = dy.dim(0)?;
    let dy = dy.reshape((frames, cut.left_outputs, cut.right_outputs))?.transpose(1, 2)?;
    let dy = dy.reshape((1, frames * cut.right_outputs, cut.left_outputs))?;
    dy.broadcast_as((cut.rank, frames * cut.right_outputs, cut.left_outputs))?.contiguous()
}

/// Gradients of T and of the left half.
pub(super) fn backward(cut: &Cut, between: &Tensor, left: &Tensor, dy: &Tensor) -> Result<[Tensor; 2]> {
    let dy = output_gradient(cut, dy)?;
    let flat = between.reshape((cut.rank, dy.dim(1)?, cut.left_inputs))?;
    let dbetween = dy.matmul(left)?.reshape(between.shape())?;
    Ok([dbetween, dy.transpose(1, 2)?.matmul(&flat)?])
}

/// Gradient of the right half, `[M_R, r N_R]`, from that of T.
pub(super) fn right_gradient(cut: &Cut, x: &Tensor, dbetween: &Tensor) -> Result<Tensor> {
    let columns = dbetween.permute((1, 3, 0, 2))?.reshape(((), cut.right_columns()))?; // [n M_L, r N_R]
    rows(cut, x, dbetween)?.t()?.matmul(&columns)
}

/// The frames as rows of the right half, `[n M_L, M_R]`, in the type of `like`.
fn rows(cut: &Cut, x: &Tensor, like: &Tensor) -> Result<Tensor> {
    x.reshape(((), cut.right_inputs))?.to_dtype(like.dtype())?.contiguous()
}
