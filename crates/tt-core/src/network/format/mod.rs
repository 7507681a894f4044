//! The factorizations that the literature names, one a file: which cores with which indices, the definition,
//! and the decomposition of a matrix.

mod bt;
mod cp;
mod cp_split;
mod fit;
mod ht;
mod ranks;
mod tr;
mod tr_split;
mod tt;
mod tucker;

use super::Network;
pub use crate::decomposition::Tree;
use crate::decomposition::{Alternating, Fit};
use crate::{Error, Result};
pub use bt::BlockTerm;
pub use cp::Canonical;
pub use cp_split::SplitCanonical;
pub use ht::Hierarchical;
pub use tr::Ring;
pub use tr_split::SplitRing;
pub use tt::Train;
pub use tucker::Tucker;

/// Gives a macro every format but the train as `"name" => Type,`, in the order of tables, behind what is in its braces.
/// [`FORMATS`] and the models that other crates make of each follow from this list.
#[macro_export]
macro_rules! for_formats {
    ($macro:ident! { $($before:tt)* }) => {
        $macro! {
            $($before)*
            "tr" => Ring,
            "tr-split" => SplitRing,
            "cp" => Canonical,
            "cp-split" => SplitCanonical,
            "tucker" => Tucker,
            "bt" => BlockTerm,
            "ht" => Hierarchical,
        }
    };
}

macro_rules! formats {
    ($($name:literal => $of:ident,)*) => {
        /// Every format, in the order of tables.
        pub const FORMATS: [&dyn Format; [$($name),*].len()] = [$(&$of),*];
    };
}

for_formats!(formats! {});

/// A factorization: from modes, options and ranks to a network, and what an entry of its matrix is.
pub trait Format: std::fmt::Debug + Send + Sync {
    /// The name in settings and in the names of models.
    fn name(&self) -> &'static str;

    /// What the ranks are, one name each, in their order.
    ///
    /// # Errors
    /// Modes that the format cannot have.
    fn ranks(&self, modes: &Modes, options: &Options) -> Result<Vec<String>>;

    /// The network, `ranks` being as many as [`Format::ranks`] names.
    fn network(&self, modes: &Modes, options: &Options, ranks: &[usize]) -> Network;

    /// Entry `W[(i_1 … i_d), (j_1 … j_e)]` by the definition, as plain loops.
    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64;

    /// The weights that the format's decomposition finds for a row-major matrix `W [M, G·N]` at the ranks of the shape.
    ///
    /// # Errors
    /// As the decomposition, and for a matrix that has smaller ranks.
    fn decompose(&self, shape: &FormatShape, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f64>>>;
}

/// Input and output modes, the gates not yet in the first output mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    /// m_1 … m_d.
    pub inputs: Vec<usize>,
    /// n_1 … n_e.
    pub outputs: Vec<usize>,
    /// G, which multiplies n_1.
    pub gates: usize,
}

impl Modes {
    /// n_1 … n_e with the gates in the first.
    fn gated(&self) -> Vec<usize> {
        let mut outputs = self.outputs.clone();
        if let Some(first) = outputs.first_mut() {
            *first *= self.gates;
        }
        outputs
    }

    /// d, where every input mode has an output mode.
    ///
    /// # Errors
    /// [`Error::Shape`] where that is not so.
    fn paired(&self, format: &str) -> Result<usize> {
        let (d, e) = (self.inputs.len(), self.outputs.len());
        if d == e {
            return Ok(d);
        }
        Err(Error::Shape(format!("{format} needs an output mode for every input mode, found {d} and {e}")))
    }
}

/// What a format is told beside modes and ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Terms of a block-term decomposition.
    pub blocks: usize,
    /// Tree of a hierarchical decomposition; none for the balanced one.
    pub tree: Option<Tree>,
}

impl Options {
    /// The tree over so many modes: the balanced one where none is given.
    pub fn tree_over(&self, modes: usize) -> Tree {
        self.tree.clone().unwrap_or_else(|| Tree::balanced(modes))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { blocks: 2, tree: None }
    }
}

/// A format of certain modes and ranks.
#[derive(Debug, Clone)]
pub struct FormatShape {
    format: &'static dyn Format,
    modes: Modes,
    options: Options,
    ranks: Vec<usize>,
    network: Network,
}

impl FormatShape {
    fn of(format: &'static dyn Format, modes: &Modes, options: &Options, ranks: Vec<usize>) -> Result<Self> {
        let network = format.network(modes, options, &ranks).finished()?;
        Ok(Self { format, modes: modes.clone(), options: options.clone(), ranks, network })
    }

    /// The format.
    pub fn format(&self) -> &'static dyn Format {
        self.format
    }

    /// The modes.
    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    /// What the format was told beside modes and ranks.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The ranks, in the order of [`Format::ranks`].
    pub fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// Cores and indices.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The matrix `W [M, G·N]` by the definition.
    ///
    /// # Cost
    /// Every entry by itself: for tests on small shapes.
    pub fn dense(&self, cores: &[f64]) -> Vec<f64> {
        let (inputs, outputs) = (self.modes.inputs.clone(), self.modes.gated());
        let (rows, columns) = (self.network.in_features(), self.network.out_features());
        let indices = |sizes: &[usize], mut at: usize| {
            let mut indices = vec![0; sizes.len()];
            for (index, size) in indices.iter_mut().zip(sizes).rev() {
                (*index, at) = (at % size, at / size);
            }
            indices
        };
        (0..rows * columns)
            .map(|at| {
                let (i, j) = (indices(&inputs, at / columns), indices(&outputs, at % columns));
                self.format.entry(self, cores, &i, &j)
            })
            .collect()
    }

    /// `G_k[at]`, core `k` at an index for each of its axes.
    fn core(&self, cores: &[f64], k: usize, at: &[usize]) -> f64 {
        self.network.value(cores, k, at)
    }
}

impl std::fmt::Display for FormatShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Modes { inputs, outputs, gates } = &self.modes;
        write!(f, "{} {inputs:?} x {outputs:?}", self.format.name())?;
        if *gates > 1 {
            write!(f, " with {gates} gates")?;
        }
        write!(f, " and ranks {:?}: {} weights", self.ranks, self.network.params())
    }
}

/// Every index of some sizes, slowest first.
fn every(sizes: &[usize], mut see: impl FnMut(&[usize])) {
    let mut at = vec![0; sizes.len()];
    loop {
        see(&at);
        let Some(k) = (0..sizes.len()).rev().find(|k| at[*k] + 1 < sizes[*k]) else { return };
        at[k] += 1;
        at[k + 1..].fill(0);
    }
}
