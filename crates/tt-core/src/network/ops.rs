//! A network by candle's operators, in the planned order: any device, differentiable.

use super::Network;
use super::plan::{Objective, Plan};
use super::products::{Operand, Product};
use crate::apply::{Affine, check};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

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
    let (cores, products) = (cores.flatten_all()?, plan.products(network));
    let size = |label: &usize| network.labels()[*label].size;
    let (mut results, mut last) = (Vec::new(), (Operand::Rows, x.clone()));
    for (at, product) in products.iter().enumerate() {
        let tensor = |operand: Operand| -> Result<Tensor> {
            let labels = network.labels_of(&products, operand);
            let sizes = labels.iter().map(size);
            Ok(match operand {
                Operand::Rows => x.reshape([n].into_iter().chain(sizes).collect::<Vec<_>>())?,
                Operand::Core(core) => {
                    let range = network.range(core);
                    cores.narrow(0, range.start, range.len())?.reshape(sizes.collect::<Vec<_>>())?
                }
                Operand::Product(product) => Tensor::clone(&results[product]),
            })
        };
        let left = (network.labels_of(&products, product.left), tensor(product.left)?);
        let right = (network.labels_of(&products, product.right), tensor(product.right)?);
        let result = contract(product, left, right, &size)?;
        last = (Operand::Product(at), result.clone());
        results.push(result);
    }
    let (labels, outputs) = (network.labels_of(&products, last.0), network.shown(network.outputs()));
    let axes: Vec<usize> = [0].into_iter().chain(places(&labels, &outputs, 1)).collect();
    Ok(last.1.permute(axes)?.reshape((n, network.out_features()))?.contiguous()?)
}

/// The whole matrix `W [M, G·N]`, from `cores [L]` and differentiable with respect to them.
///
/// # Cost
/// The cheapest order among the cores: a matrix of rank r beside its last core takes `r · M · G·N` multiply-adds.
///
/// # Errors
/// [`Error::Size`] if the cores do not fit the network.
pub fn matrix(network: &Network, cores: &Tensor) -> Result<Tensor> {
    let whole = network.put_out();
    let plan = Plan::new(&whole, Objective::Products { rows: 1 });
    let one = Tensor::ones((1, 1), cores.dtype(), cores.device())?;
    let numbers = forward(&whole, &plan, Affine::IDENTITY, &one, cores)?;
    Ok(numbers.reshape((network.in_features(), network.out_features()))?)
}

/// The axes of some indices in a tensor whose first `head` axes are none.
fn places<'a>(labels: &'a [usize], of: &'a [usize], head: usize) -> impl Iterator<Item = usize> + 'a {
    of.iter().map(move |label| labels.iter().position(|other| other == label).map_or(0, |at| at + head))
}

/// The product of two tensors with these labels; one with rows has an axis more, the first.
fn contract(
    product: &Product,
    (of_left, left): (Vec<usize>, Tensor),
    (of_right, right): (Vec<usize>, Tensor),
    size: &impl Fn(&usize) -> usize,
) -> Result<Tensor> {
    let Product { of_rows, batch, free, summed, columns, .. } = product;
    let head = usize::from(*of_rows);
    let n = if *of_rows { left.dim(0)? } else { 1 };
    let count = |labels: &[usize]| labels.iter().map(size).product::<usize>();
    let (b, k) = (count(batch), count(summed));
    let axes: Vec<usize> = places(&of_left, batch, head)
        .chain(0..head)
        .chain(places(&of_left, free, head))
        .chain(places(&of_left, summed, head))
        .collect();
    let a = left.permute(axes)?.contiguous()?.reshape((b, n * count(free), k))?; // [batch, n·free, summed]
    let axes: Vec<usize> = places(&of_right, &[&batch[..], summed, columns].concat(), 0).collect();
    let c = right.permute(axes)?.contiguous()?.reshape((b, k, count(columns)))?;
    let product = a.matmul(&c)?; // [batch, n·free, columns]
    let mut shape: Vec<usize> = batch.iter().map(size).collect();
    shape.extend(of_rows.then_some(n));
    shape.extend(free.iter().chain(columns).map(size));
    let tensor = product.reshape(shape)?;
    if !of_rows {
        return Ok(tensor);
    }
    // The rows come first again.
    let order = [batch.len()].into_iter().chain(0..batch.len()).chain(batch.len() + 1..tensor.rank());
    Ok(tensor.permute(order.collect::<Vec<_>>())?)
}
