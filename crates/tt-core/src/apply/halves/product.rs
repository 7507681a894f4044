//! The product of frames with the two halves and its gradients in candle operators: the specification of the
//! kernels, and what runs where they do not.

use candle_core::Tensor;

use super::Cut;

type Result<T> = candle_core::Result<T>;

/// `y [n, N]` and T `[n, N_R, r, M_L]`.
pub(super) fn forward(cut: &Cut, x: &Tensor, right: &Tensor, left: &Tensor) -> Result<(Tensor, Tensor)> {
    let frames = x.dim(0)?;
    let between = rows(cut, x, right)?.matmul(right)?;
    let between = between.reshape((frames, cut.left_inputs, cut.rank, cut.right_outputs))?;
    let between = between.permute((0, 3, 2, 1))?.contiguous()?;
    let y = columns(cut, &between)?.matmul(&left_rows(cut, left)?.t()?)?; // [n N_R, N_L]
    let y = y.reshape((frames, cut.right_outputs, cut.left_outputs))?.transpose(1, 2)?;
    Ok((y.reshape((frames, cut.outputs()))?, between))
}

/// T, or its gradient, as one matrix, `[n N_R, r M_L]`.
fn columns(cut: &Cut, between: &Tensor) -> Result<Tensor> {
    between.reshape(((), cut.rank * cut.left_inputs))
}

/// The left half as one matrix, `[N_L, r M_L]`.
fn left_rows(cut: &Cut, left: &Tensor) -> Result<Tensor> {
    left.transpose(0, 1)?.reshape((cut.left_outputs, cut.rank * cut.left_inputs))?.contiguous()
}

/// The gradient of y as one matrix, `[n N_R, N_L]`: copied once, whatever the rank.
fn output_gradient(cut: &Cut, dy: &Tensor) -> Result<Tensor> {
    let dy = dy.reshape(((), cut.left_outputs, cut.right_outputs))?.transpose(1, 2)?;
    dy.reshape(((), cut.left_outputs))?.contiguous()
}

/// Gradient of T, `[n, N_R, r, M_L]`.
pub(super) fn between_gradient(cut: &Cut, left: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let dbetween = output_gradient(cut, dy)?.matmul(&left_rows(cut, left)?)?;
    dbetween.reshape(((), cut.right_outputs, cut.rank, cut.left_inputs))
}

/// Gradient of the left half, `[r, N_L, M_L]`.
pub(super) fn left_gradient(cut: &Cut, between: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let dleft = output_gradient(cut, dy)?.t()?.matmul(&columns(cut, between)?)?;
    dleft.reshape((cut.left_outputs, cut.rank, cut.left_inputs))?.transpose(0, 1)?.contiguous()
}

/// Gradient of the right half, `[M_R, r N_R]`, from that of T.
pub(super) fn right_gradient(cut: &Cut, x: &Tensor, dbetween: &Tensor) -> Result<Tensor> {
    let columns = dbetween.permute((0, 3, 2, 1))?.reshape(((), cut.right_columns()))?; // [n M_L, r N_R]
    rows(cut, x, dbetween)?.t()?.matmul(&columns)
}

/// The frames as rows of the right half, `[n M_L, M_R]`, in the type of `like`.
fn rows(cut: &Cut, x: &Tensor, like: &Tensor) -> Result<Tensor> {
    x.reshape(((), cut.right_inputs))?.to_dtype(like.dtype())?.contiguous()
}
