//! From bytes to pre-activations: the matrix of each layer, and a factorized U, applied factor by factor.

use super::Export;
use super::builder::{Builder, Setting};
use super::schema::FLOAT;
use crate::Result;
use crate::projection::{Factors, Matrix, Sides};
use tt_core::TtShape;
use tt_core::network::{Network, Objective, Operand, Plan, Product};

/// Rows that share the products among cores in the plan of a network: programs do them once for a graph.
const ROWS: usize = 16;

impl Export<'_> {
    /// Bytes as the numbers that the model was trained on.
    pub(super) fn pixels(&mut self, frames: &str) -> String {
        let (scale, shift) = (self.config.frames.scale, self.config.frames.shift);
        let x = self.graph.op("Cast", &[frames], &[("to", Setting::Int(i64::from(FLOAT)))]);
        let scale = self.graph.floats("frames.scale", &[], &[scale]);
        let shift = self.graph.floats("frames.shift", &[], &[shift]);
        let x = self.graph.op("Mul", &[&x, &scale], &[]);
        self.graph.op("Add", &[&x, &shift], &[])
    }

    /// Rows times a matrix, behind the leading axes, which stay as they are: `[…, M]` to `[…, G·H]`. The tensors of the
    /// matrix begin with `name`.
    pub(super) fn project(
        &mut self,
        rows: &str,
        leading: usize,
        (matrix, sides): (&Matrix, Sides),
        name: &str,
    ) -> Result<String> {
        if *matrix == Matrix::Dense {
            let kernel = self.matrix(&format!("{name}.kernel"))?;
            let rows = self.graph.reshape(rows, &shape(leading, &[sides.features]));
            return Ok(self.graph.op("MatMul", &[&rows, &kernel], &[]));
        }
        if matrix.count() == 1 {
            return self.factors(rows, leading, (matrix, sides), name);
        }
        let parts: Vec<String> = (0..matrix.count())
            .map(|gate| self.factors(rows, leading, (matrix, sides), &format!("{name}.gate.{gate}")))
            .collect::<Result<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.graph.op("Concat", &parts, &[("axis", Setting::Int(-1))]))
    }

    /// Rows times one factorization: all gates' or one's.
    pub(super) fn factors(
        &mut self,
        rows: &str,
        leading: usize,
        (matrix, sides): (&Matrix, Sides),
        name: &str,
    ) -> Result<String> {
        match matrix.factors(sides.gates)? {
            None => self.project(rows, leading, (matrix, sides), name),
            Some(Factors::Train(train)) => self.train(rows, leading, &train, name),
            Some(Factors::Network(shape)) => self.network(rows, leading, shape.network(), name),
        }
    }

    /// One train, last core first: `[…, M]` to `[…, N]`. With J outputs so far, the running tensor is
    /// `[…, m_1 … m_{k-1}, m_k·r_k, J]`, and the product with `W_k` `[r_{k-1}·n_k, m_k·r_k]` leaves `r_{k-1}` where the
    /// next reshape wants it.
    fn train(&mut self, rows: &str, leading: usize, train: &TtShape, name: &str) -> Result<String> {
        let mut before: usize = train.in_features();
        let mut outputs = 1;
        let mut x = rows.to_owned();
        for k in (0..train.order()).rev() {
            let (rows, columns) = train.core_matrix(k);
            before /= train.input_modes()[k];
            let name = format!("{name}.core.{}", k + 1);
            let (_, core) = self.values(&name)?; // [m_k·r_k, r_{k-1}·n_k]
            x = if outputs == 1 {
                // The first product needs no transposed core: the rows are one matrix.
                let core = self.graph.weight(&name, &[rows, columns], &core, None);
                let x = self.graph.reshape(&x, &shape(leading, &[before, rows]));
                self.graph.op("MatMul", &[&x, &core], &[])
            } else {
                let across: Vec<f32> = (0..columns)
                    .flat_map(|column| (0..rows).map(move |row| (row, column)))
                    .map(|(row, column)| core[row * columns + column])
                    .collect();
                let core = self.graph.weight(&name, &[columns, rows], &across, None);
                let x = self.graph.reshape(&x, &shape(leading, &[before, rows, outputs]));
                self.graph.op("MatMul", &[&core, &x], &[])
            };
            outputs *= train.output_mode(k);
        }
        Ok(self.graph.reshape(&x, &shape(leading, &[train.out_features()])))
    }

    /// One network in the cheapest order, a batched product of matrices a step. Products among cores alone depend on no
    /// input: programs fold them.
    fn network(&mut self, rows: &str, leading: usize, network: &Network, name: &str) -> Result<String> {
        let products = Plan::new(network, Objective::Products { rows: ROWS }).products(network);
        let mut results: Vec<String> = Vec::with_capacity(products.len());
        for Product { left, right, of_rows, batch, free, summed, columns } in &products {
            let named = |export: &mut Self, operand: &Operand| -> Result<Axes> {
                let labels = network.labels_of(&products, *operand);
                Ok(match operand {
                    Operand::Rows => Axes { value: rows.to_owned(), labels },
                    Operand::Product(product) => Axes { value: results[*product].clone(), labels },
                    Operand::Core(core) => {
                        let name = format!("{name}.core.{}", network.cores()[*core].name);
                        let (dims, values) = export.values(&name)?;
                        Axes { value: export.graph.weight(&name, &dims, &values, None), labels }
                    }
                })
            };
            let (left, right) = (named(self, left)?, named(self, right)?);
            let head = if *of_rows { leading } else { 0 };
            let (left_axes, right_axes) = ([&batch[..], free, summed], [&batch[..], summed, columns]);
            let first = usize::from(batch.is_empty());
            let left = left.arranged(&mut self.graph, network, head, &left_axes[first..]);
            let right = right.arranged(&mut self.graph, network, 0, &right_axes[first..]);
            results.push(self.graph.op("MatMul", &[&left, &right], &[]));
        }
        let outputs = network.shown(network.outputs());
        let (value, labels) = match (results.pop(), products.last()) {
            (Some(value), Some(product)) => (value, product.labels()),
            _ => (rows.to_owned(), Vec::new()),
        };
        Ok(Axes { value, labels }.arranged(&mut self.graph, network, leading, &[&outputs]))
    }
}

/// A tensor and the indices of its axes behind the leading ones.
struct Axes {
    value: String,
    labels: Vec<usize>,
}

impl Axes {
    /// The tensor with an axis for each of these groups of indices, behind the leading ones.
    fn arranged(self, graph: &mut Builder, network: &Network, leading: usize, groups: &[&[usize]]) -> String {
        let Self { mut value, labels } = self;
        let size =
            |labels: &[usize]| labels.iter().map(|label| network.labels()[*label].size).product::<usize>();
        let to = groups.concat();
        let place = |label: &usize| to.iter().position(|other| other == label).unwrap_or_default();
        // Indices that stay side by side are one axis: programs know transpositions of few axes best.
        let runs: Vec<&[usize]> = labels.chunk_by(|a, b| place(a) + 1 == place(b)).collect();
        if runs.len() > 1 {
            let sizes: Vec<usize> = runs.iter().map(|run| size(run)).collect();
            value = graph.reshape(&value, &shape(leading, &sizes));
            let mut order: Vec<usize> = (0..runs.len()).collect();
            order.sort_by_key(|at| runs[*at].first().map(place));
            let axes = (0..leading).chain(order.into_iter().map(|at| at + leading));
            let axes: Vec<i64> = axes.map(|axis| axis as i64).collect();
            value = graph.op("Transpose", &[&value], &[("perm", Setting::Ints(&axes))]);
        }
        let axes: Vec<usize> = groups.iter().map(|group| size(group)).collect();
        graph.reshape(&value, &shape(leading, &axes))
    }
}

/// A shape whose leading axes are those of the input: that is what 0 stands for.
fn shape(leading: usize, rest: &[usize]) -> Vec<i64> {
    std::iter::repeat_n(0, leading).chain(rest.iter().map(|extent| *extent as i64)).collect()
}
