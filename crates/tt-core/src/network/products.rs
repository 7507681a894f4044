//! What an order of contractions comes to: one product of matrices after the other.

use super::Network;
use super::axes::Set;
use super::plan::{Indices, Merge, Plan};

/// A tensor that a plan contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The rows, with an axis for each index of the input.
    Rows,
    /// A core of the network.
    Core(usize),
    /// The result of an earlier product.
    Product(usize),
}

/// Two tensors contracted, as a batch of products of matrices: `[batch, free, summed]` times
/// `[batch, summed, columns]` leaves `[batch, free, columns]`. Indices of one value are left out everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The left factor.
    pub left: Operand,
    /// The right factor: never the rows, nor what came from them.
    pub right: Operand,
    /// Whether the rows are in the left factor, and so in the result.
    pub of_rows: bool,
    /// Indices of both factors that the result has.
    pub batch: Vec<usize>,
    /// Indices of the left factor alone.
    pub free: Vec<usize>,
    /// Indices of both factors that are summed over.
    pub summed: Vec<usize>,
    /// Indices of the right factor alone.
    pub columns: Vec<usize>,
}

impl Product {
    /// The indices of the result, slowest first.
    pub fn labels(&self) -> Vec<usize> {
        [&self.batch[..], &self.free, &self.columns].concat()
    }
}

impl Network {
    /// Those of some indices that take more than one value.
    pub fn shown(&self, labels: &[usize]) -> Vec<usize> {
        labels.iter().copied().filter(|label| self.labels[*label].size > 1).collect()
    }

    /// The indices of an operand of these products, slowest first.
    pub fn labels_of(&self, products: &[Product], operand: Operand) -> Vec<usize> {
        match operand {
            Operand::Rows => self.shown(&self.inputs),
            Operand::Core(core) => self.shown(&self.cores[core].labels),
            Operand::Product(product) => products[product].labels(),
        }
    }
}

impl Plan {
    /// The products of this order for its network, the last of which leaves the outputs.
    pub fn products(&self, network: &Network) -> Vec<Product> {
        let mut unfolded = Unfolded { network, indices: Indices::new(network), products: Vec::new() };
        let (mut row, mut cores) = (Operand::Rows, 0);
        for step in &self.steps {
            let (right, of_right) = unfolded.merged(step);
            cores |= of_right;
            row = unfolded.product((row, right), unfolded.indices.of_row(cores), true);
        }
        unfolded.products
    }
}

struct Unfolded<'a> {
    network: &'a Network,
    indices: Indices,
    products: Vec<Product>,
}

impl Unfolded<'_> {
    /// A core, or cores contracted, and which they are.
    fn merged(&mut self, merge: &Merge) -> (Operand, Set) {
        match merge {
            Merge::Core(core) => (Operand::Core(*core), 1 << core),
            Merge::Pair(left, right) => {
                let (left, of_left) = self.merged(left);
                let (right, of_right) = self.merged(right);
                let cores = of_left | of_right;
                (self.product((left, right), self.indices.of_cores(cores), false), cores)
            }
        }
    }

    /// The product that leaves the indices of `out`.
    fn product(&mut self, (left, right): (Operand, Operand), out: Set, of_rows: bool) -> Operand {
        let [of_left, of_right] =
            [left, right].map(|operand| self.network.labels_of(&self.products, operand));
        let (both, free): (Vec<usize>, Vec<usize>) =
            of_left.iter().copied().partition(|label| of_right.contains(label));
        let (batch, summed) = both.into_iter().partition(|label| out >> label & 1 == 1);
        let columns = of_right.into_iter().filter(|label| !of_left.contains(label)).collect();
        self.products.push(Product { left, right, of_rows, batch, free, summed, columns });
        Operand::Product(self.products.len() - 1)
    }
}
