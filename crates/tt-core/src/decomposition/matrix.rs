//! TT-matrices: a matrix `W [M, N]` whose row and column indices are split into modes.

use super::{Core, Scalar, Truncation, TtTensor, linear, tt_svd};
use crate::error::count;
use crate::{Error, Result};

/// A matrix `W(i_1 … i_d; j_1 … j_d) = G_1(i_1, j_1) … G_d(i_d, j_d)`, cores `[r_{k-1}, m_k, n_k, r_k]`.
///
/// # Paper
/// Oseledets 2011, section 4.3; Novikov et al. 2015 for the layer.
///
/// # Examples
/// ```
/// use tt_core::decomposition::{Truncation, TtMatrix};
///
/// let identity: Vec<f32> = (0..36 * 36).map(|at| f32::from(u8::from(at % 37 == 0))).collect();
/// let w = TtMatrix::from_dense(&identity, &[4, 9], &[4, 9], &Truncation::RelativeError(1e-6))?;
/// assert_eq!(w.train().ranks(), [1, 1, 1], "an identity is a Kronecker product of identities");
/// let x: Vec<f32> = (0..36).map(|v| v as f32).collect();
/// let y = w.apply(&x)?;
/// assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-4));
/// # Ok::<(), tt_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        try_from = "Fields<T>",
        bound(
            serialize = "T: Clone + serde::Serialize",
            deserialize = "T: Scalar + serde::de::DeserializeOwned"
        )
    )
)]
pub struct TtMatrix<T> {
    train: TtTensor<T>,
    #[cfg_attr(feature = "serde", serde(rename = "input_modes"))]
    inputs: Vec<usize>,
    #[cfg_attr(feature = "serde", serde(rename = "output_modes"))]
    outputs: Vec<usize>,
}

/// What serde reads before it is checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(bound = "T: Scalar + serde::de::DeserializeOwned")]
struct Fields<T> {
    train: TtTensor<T>,
    input_modes: Vec<usize>,
    output_modes: Vec<usize>,
}

#[cfg(feature = "serde")]
impl<T: Scalar> TryFrom<Fields<T>> for TtMatrix<T> {
    type Error = Error;

    fn try_from(read: Fields<T>) -> Result<Self> {
        Self::new(read.train, &read.input_modes, &read.output_modes)
    }
}

impl<T: Scalar> TtMatrix<T> {
    /// Reads a train of modes `m_k · n_k` (index `i_k · n_k + j_k`) as a matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] where the modes do not multiply to those of the train.
    pub fn new(train: TtTensor<T>, inputs: &[usize], outputs: &[usize]) -> Result<Self> {
        let joint = joint(inputs, outputs)?;
        if inputs.len() != outputs.len() || joint != train.modes() {
            return Err(Error::Shape(format!(
                "input modes {inputs:?} and output modes {outputs:?} for a train of modes {:?}",
                train.modes()
            )));
        }
        Ok(Self { train, inputs: inputs.to_vec(), outputs: outputs.to_vec() })
    }

    /// Decomposes a row-major `W [M, N]`.
    ///
    /// # Cost
    /// That of [`tt_svd`] on `M · N` numbers, and one reordered copy.
    ///
    /// # Errors
    /// As [`tt_svd`]; [`Error::Shape`] for modes that do not pair up.
    pub fn from_dense(
        values: &[T],
        inputs: &[usize],
        outputs: &[usize],
        truncation: &Truncation,
    ) -> Result<Self> {
        let paired = pair_modes(values, inputs, outputs)?;
        Self::new(tt_svd(&paired, &joint(inputs, outputs)?, truncation)?, inputs, outputs)
    }

    /// The train beneath, with modes `m_k · n_k`.
    pub fn train(&self) -> &TtTensor<T> {
        &self.train
    }

    /// Input modes `m_1 … m_d`.
    pub fn input_modes(&self) -> &[usize] {
        &self.inputs
    }

    /// Output modes `n_1 … n_d`.
    pub fn output_modes(&self) -> &[usize] {
        &self.outputs
    }

    /// The whole matrix, row-major `[M, N]`.
    ///
    /// # Cost
    /// `O(r M N)`.
    pub fn reconstruct(&self) -> Vec<T> {
        unpaired(&self.train.reconstruct(), &self.inputs, &self.outputs)
    }

    /// `Y [B, N] = X [B, M] · W`, last core first.
    ///
    /// # Cost
    /// `O(d B r² max(M, N) n)`; see [`crate::TtShape::macs_per_row`].
    ///
    /// # Errors
    /// [`Error::Size`] where the length of X is not a multiple of M.
    pub fn apply(&self, x: &[T]) -> Result<Vec<T>> {
        let features = count("input modes", &self.inputs)?;
        if x.is_empty() || !x.len().is_multiple_of(features) {
            return Err(Error::Size {
                what: "input",
                expected: format!("rows of {features} numbers"),
                found: x.len().to_string(),
            });
        }
        let mut state = x.to_vec(); // [P, i_k, r_k, J], J the outputs so far
        let mut done = 1;
        for (k, core) in self.train.cores.iter().enumerate().rev() {
            let (m, n) = (self.inputs[k], self.outputs[k]);
            // [r_{k-1} n_k, m_k r_k]
            let mut weights = Vec::with_capacity(core.values.len());
            for a in 0..core.left {
                for j in 0..n {
                    for i in 0..m {
                        weights.extend((0..core.right).map(|b| core.at(a, i * n + j, b)));
                    }
                }
            }
            let (rows, depth) = (core.left * n, m * core.right);
            state = if done == 1 {
                let batch = state.len() / depth;
                linear::product_with_transposed((&state, batch, depth), (&weights, rows, depth))
            } else {
                let blocks = state.chunks_exact(depth * done);
                blocks
                    .flat_map(|block| linear::product((&weights, rows, depth), (block, depth, done)))
                    .collect()
            };
            done *= n;
        }
        Ok(state)
    }

    /// `self · other`: ranks multiply.
    ///
    /// # Cost
    /// `O(d m n l r⁴)`.
    ///
    /// # Errors
    /// [`Error::Size`] unless the output modes are the other's input modes; [`Error::Overflow`].
    ///
    /// # Paper
    /// Section 4.3.
    pub fn multiply(&self, other: &Self) -> Result<Self> {
        if self.outputs != other.inputs {
            return Err(Error::Size {
                what: "input modes of the second matrix",
                expected: format!("{:?}", self.outputs),
                found: format!("{:?}", other.inputs),
            });
        }
        let (first, of_first) = self.train.tame();
        let (second, of_second) = other.train.tame();
        let cores = first.cores.iter().zip(&second.cores).enumerate().map(|(k, (a, b))| {
            let (m, l, n) = (self.inputs[k], self.outputs[k], other.outputs[k]);
            let size = count("core of the product", &[a.left, b.left, m, n, a.right, b.right])?;
            let (left, right) = (a.left * b.left, a.right * b.right);
            let mut values = Vec::with_capacity(size);
            for row in 0..left {
                for mode in 0..m * n {
                    for column in 0..right {
                        let term = |inner| {
                            a.at(row / b.left, mode / n * l + inner, column / b.right)
                                * b.at(row % b.left, inner * n + mode % n, column % b.right)
                        };
                        values.push((0..l).map(term).sum());
                    }
                }
            }
            Ok(Core { left, mode: m * n, right, values })
        });
        let train = TtTensor { cores: cores.collect::<Result<_>>()? };
        let train = train.restored(of_first + of_second, "core of the product")?;
        Ok(Self { train, inputs: self.inputs.clone(), outputs: other.outputs.clone() })
    }

    /// `Wᵀ`.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let cores = self.train.cores.iter().enumerate().map(|(k, core)| {
            let (m, n) = (self.inputs[k], self.outputs[k]);
            let mut values = Vec::with_capacity(core.values.len());
            for a in 0..core.left {
                for mode in 0..m * n {
                    let (j, i) = (mode / m, mode % m);
                    values.extend((0..core.right).map(|b| core.at(a, i * n + j, b)));
                }
            }
            Core { values, ..*core }
        });
        let train = TtTensor { cores: cores.collect() };
        Self { train, inputs: self.outputs.clone(), outputs: self.inputs.clone() }
    }

    /// A matrix of smaller ranks near this one; see [`TtTensor::round`].
    ///
    /// # Errors
    /// As [`TtTensor::round`].
    pub fn round(&self, truncation: &Truncation) -> Result<Self> {
        Ok(Self { train: self.train.round(truncation)?, ..self.clone() })
    }
}

/// The tensor `[m_1 n_1, …, m_d n_d]` of a row-major `W [M, N]`: index k is `i_k · n_k + j_k`. Its unfoldings are
/// what the TT ranks of W come from.
///
/// # Cost
/// One copy.
///
/// # Errors
/// [`Error::Size`] for modes that do not pair up or do not multiply to the matrix.
pub fn pair_modes<T: Scalar>(values: &[T], inputs: &[usize], outputs: &[usize]) -> Result<Vec<T>> {
    let (rows, columns) = (count("input modes", inputs)?, count("output modes", outputs)?);
    if inputs.len() != outputs.len() || values.len() != count("matrix", &[rows, columns])? {
        return Err(Error::Size {
            what: "matrix",
            expected: format!("{rows} x {columns} numbers for modes {inputs:?} and {outputs:?}"),
            found: values.len().to_string(),
        });
    }
    let places = Places::new(inputs, outputs);
    let mut paired = vec![T::from_f64(0.0); values.len()];
    for (row, line) in values.chunks_exact(columns.max(1)).enumerate() {
        let base = places.rows[row];
        line.iter().zip(&places.columns).for_each(|(value, at)| paired[base + at] = *value);
    }
    Ok(paired)
}

fn unpaired<T: Scalar>(paired: &[T], inputs: &[usize], outputs: &[usize]) -> Vec<T> {
    let places = Places::new(inputs, outputs);
    let entry = |row: &usize| places.columns.iter().map(|column| paired[row + column]).collect::<Vec<T>>();
    places.rows.iter().flat_map(entry).collect()
}

/// The modes `m_k · n_k`.
pub(super) fn joint(inputs: &[usize], outputs: &[usize]) -> Result<Vec<usize>> {
    inputs.iter().zip(outputs).map(|(m, n)| count("joint mode", &[*m, *n])).collect()
}

/// Where rows and columns of a matrix lie in the tensor whose modes pair them.
struct Places {
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl Places {
    fn new(inputs: &[usize], outputs: &[usize]) -> Self {
        let mut strides = vec![(0, 0); inputs.len()];
        let mut stride = 1;
        for k in (0..inputs.len()).rev() {
            strides[k] = (stride * outputs[k], stride);
            stride *= inputs[k] * outputs[k];
        }
        let offsets = |modes: &[usize], stride: &dyn Fn(usize) -> usize| {
            (0..modes.iter().product::<usize>())
                .map(|mut index| {
                    let mut at = 0;
                    for k in (0..modes.len()).rev() {
                        at += index % modes[k] * stride(k);
                        index /= modes[k];
                    }
                    at
                })
                .collect()
        };
        Self { rows: offsets(inputs, &|k| strides[k].0), columns: offsets(outputs, &|k| strides[k].1) }
    }
}
