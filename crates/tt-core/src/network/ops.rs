//! A network by candle's operators, in the planned order: any device, differentiable.

use super::Network;
use super::plan::{Indices, Merge, Plan, Set};
use crate::apply::{Affine, check};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// A tensor and the labels of its axes; a row has an axis more, the first.
struct Labelled {
    tensor: Tensor,
    labels: Vec<usize>,
}

/// `y = (scale · x + shift) W`.
///
/// # Shapes
/// `x [n, M]` in u8 or the type of the cores, `cores [L]`, result `[n, G·N]` in the type of the cores.
///
/// # Errors
/// [`Error::Size`] if the tensors do not fit the network or there is no row.
pub fn forward(network: &Network, plan: &Plan, affine: Affine, x: &Tensor, cores: &Tensor) -> Result<Tensor> {
    check("cores", cores.elem_count(), network.params())?;
    let n = match x.dims() {
        [rows, columns] if *rows > 0 && *columns == network.in_features() => *rows,
        other => {
            let (expected, found) = (format!("[n >= 1, {}]", network.in_features()), format!("{other:?}"));
            return Err(Error::Size { what: "rows", expected, found });
        }
    };
    let x = if x.dtype() == DType::U8 { x.to_dtype(cores.dtype())? } else { x.clone() };
    let x = x.affine(f64::from(affine.scale), f64::from(affine.shift))?;
    let (cores, indices) = (cores.flatten_all()?, Indices::new(network));
    let size = |label: &usize| network.labels()[*label].size;
    let shown = |labels: &[usize]| labels.iter().copied().filter(|label| size(label) > 1).collect::<Vec<_>>();
    let labels = shown(network.inputs());
    let shape: Vec<usize> = [n].into_iter().chain(labels.iter().map(size)).collect();
    let mut row = Labelled { tensor: x.reshape(shape)?, labels };
    let mut set = 0;
    for step in &plan.steps {
        let (right, of_right) = merged(network, &indices, &cores, step)?;
        set |= of_right;
        row = contract(network, &row, &right, indices.of_row(set), Some(n))?;
    }
    let outputs = shown(network.outputs());
    let place = |label: &usize| row.labels.iter().position(|other| other == label).map_or(0, |at| at + 1);
    let axes: Vec<usize> = [0].into_iter().chain(outputs.iter().map(place)).collect();
    Ok(row.tensor.permute(axes)?.reshape((n, network.out_features()))?.contiguous()?)
}

/// A core, or cores contracted, and which they are.
fn merged(network: &Network, indices: &Indices, cores: &Tensor, merge: &Merge) -> Result<(Labelled, Set)> {
    match merge {
        Merge::Core(core) => {
            let range = network.range(*core);
            let size = |label: &usize| network.labels()[*label].size;
            let labels: Vec<usize> =
                network.cores()[*core].labels.iter().copied().filter(|label| size(label) > 1).collect();
            let shape: Vec<usize> = labels.iter().map(size).collect();
            let tensor = cores.narrow(0, range.start, range.len())?.reshape(shape)?;
            Ok((Labelled { tensor, labels }, 1 << core))
        }
        Merge::Pair(left, right) => {
            let (left, of_left) = merged(network, indices, cores, left)?;
            let (right, of_right) = merged(network, indices, cores, right)?;
            let set = of_left | of_right;
            Ok((contract(network, &left, &right, indices.of_cores(set), None)?, set))
        }
    }
}

/// Contracts two tensors into one with the labels of `out`, as a batched product of matrices; a left of `rows` rows has
/// an axis for them.
fn contract(
    network: &Network,
    left: &Labelled,
    right: &Labelled,
    out: Set,
    rows: Option<usize>,
) -> Result<Labelled> {
    let kept = |label: &usize| out >> label & 1 == 1;
    let both: Vec<usize> = left.labels.iter().copied().filter(|label| right.labels.contains(label)).collect();
    let (batch, summed): (Vec<usize>, Vec<usize>) = both.iter().copied().partition(kept);
    let free: Vec<usize> = left.labels.iter().copied().filter(|label| !both.contains(label)).collect();
    let columns: Vec<usize> = right.labels.iter().copied().filter(|label| !both.contains(label)).collect();
    let size = |label: &usize| network.labels()[*label].size;
    let count = |labels: &[usize]| labels.iter().map(size).product::<usize>();
    let (head, n) = (usize::from(rows.is_some()), rows.unwrap_or(1));
    let axes = |of: &Labelled, groups: [&[usize]; 3], head: usize| -> Vec<usize> {
        let place =
            |label: &usize| of.labels.iter().position(|other| other == label).map_or(0, |at| at + head);
        let mut axes: Vec<usize> = groups[0].iter().map(place).collect();
        axes.extend(0..head);
        axes.extend(groups[1].iter().chain(groups[2]).map(place));
        axes
    };
    let (b, k) = (count(&batch), count(&summed));
    let a = left.tensor.permute(axes(left, [&batch, &free, &summed], head))?; // [batch, n, free, summed]
    let a = a.contiguous()?.reshape((b, n * count(&free), k))?;
    let c = right.tensor.permute(axes(right, [&batch, &summed, &columns], 0))?.contiguous()?;
    let product = a.matmul(&c.reshape((b, k, count(&columns)))?)?; // [batch, n·free, columns]
    let mut shape: Vec<usize> = batch.iter().map(size).collect();
    shape.extend(rows);
    shape.extend(free.iter().chain(&columns).map(size));
    let tensor = product.reshape(shape)?;
    // The rows come first again.
    let order: Vec<usize> = if head == 1 {
        [batch.len()].into_iter().chain(0..batch.len()).chain(batch.len() + 1..tensor.rank()).collect()
    } else {
        (0..tensor.rank()).collect()
    };
    let labels = [batch, free, columns].concat();
    Ok(Labelled { tensor: tensor.permute(order)?, labels })
}
