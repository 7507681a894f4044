//! The form of a matrix in words, as model folders have it, and its weights tensor by tensor.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tt_core::TtShape;
use tt_core::network::{FORMATS, FormatShape, Modes, Network, Options};

/// The form of a matrix: all that there is to know beside its weights and its sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum Matrix {
    /// All of its numbers.
    Dense,
    /// Tensor Trains.
    Train {
        /// m_1 … m_d.
        input_modes: Vec<usize>,
        /// n_1 … n_d, without the gates.
        output_modes: Vec<usize>,
        /// r_0 … r_d of a train.
        ranks: Vec<usize>,
        /// Trains: 1 for all gates, the gate slowest in the first output mode, or one per gate.
        trains: usize,
    },
    /// Tensor networks of another format.
    Network {
        /// Its name, one of [`FORMATS`].
        format: String,
        /// m_1 … m_d.
        input_modes: Vec<usize>,
        /// n_1 … n_e, without the gates.
        output_modes: Vec<usize>,
        /// Sizes of the inner indices by name.
        ranks: BTreeMap<String, usize>,
        /// Terms of `bt`, the size of its index `b`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blocks: Option<usize>,
        /// Tree of `ht`, as `((1 2) (3 4))`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tree: Option<String>,
        /// Networks: 1 for all gates, the gate slowest in `n1`, or one per gate.
        networks: usize,
        /// Every core with its indices, slowest first, as `A1[r0,m1,n1,r1]`: what a loader needs that knows no format.
        cores: Vec<String>,
    },
}

/// Sides of a matrix: the numbers of a row, and the gates of so many units that they become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides {
    pub(crate) features: usize,
    pub(crate) gates: usize,
    pub(crate) hidden: usize,
}

/// One factorization of a matrix.
#[derive(Debug)]
pub(crate) enum Factors {
    Train(TtShape),
    Network(FormatShape),
}

/// Cores as [`Matrix::Network`] lists them.
fn listed(network: &Network) -> Vec<String> {
    let label = |label: &usize| network.labels()[*label].name.as_str();
    let labels = |labels: &[usize]| labels.iter().map(label).collect::<Vec<_>>().join(",");
    network.cores().iter().map(|core| format!("{}[{}]", core.name, labels(&core.labels))).collect()
}

impl Matrix {
    /// Of trains of one shape.
    pub(crate) fn of_trains(shape: &TtShape, trains: usize) -> Self {
        Self::Train {
            input_modes: shape.input_modes().to_vec(),
            output_modes: shape.output_modes().to_vec(),
            ranks: shape.ranks().to_vec(),
            trains,
        }
    }

    /// Of networks of one shape.
    ///
    /// # Errors
    /// None for a shape that was made.
    pub(super) fn of_networks(shape: &FormatShape, networks: usize) -> Result<Self> {
        let (format, modes, options) = (shape.format(), shape.modes(), shape.options());
        let names = format.ranks(modes, options)?;
        Ok(Self::Network {
            format: format.name().into(),
            input_modes: modes.inputs.clone(),
            output_modes: modes.outputs.clone(),
            ranks: names.into_iter().zip(shape.ranks().iter().copied()).collect(),
            blocks: (format.name() == "bt").then_some(options.blocks),
            tree: (format.name() == "ht").then(|| options.tree_over(modes.inputs.len()).to_string()),
            networks,
            cores: listed(shape.network()),
        })
    }

    /// What models call the form: the name of a [`super::Factorization`].
    pub(crate) fn form(&self) -> &str {
        match self {
            Self::Dense => super::DENSE.name,
            Self::Train { .. } => super::TRAIN.name,
            Self::Network { format, .. } => format,
        }
    }

    /// How many factorizations share the gates.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Dense => 1,
            Self::Train { trains, .. } => *trains,
            Self::Network { networks, .. } => *networks,
        }
    }

    /// One of the factorizations of a matrix for so many gates; none of a full one.
    ///
    /// # Errors
    /// Modes, ranks or cores that do not fit each other.
    pub(crate) fn factors(&self, gates: usize) -> Result<Option<Factors>> {
        let gates = gates / self.count().max(1);
        Ok(match self {
            Self::Dense => None,
            Self::Train { input_modes, output_modes, ranks, .. } => {
                let shape = TtShape::new(input_modes, output_modes, ranks, gates)?;
                if shape.with_gates(gates)? != shape {
                    return Err(Error::Unsupported(format!(
                        "ranks {ranks:?} are above what these modes allow"
                    )));
                }
                Some(Factors::Train(shape))
            }
            Self::Network { format, input_modes, output_modes, ranks, blocks, tree, cores, .. } => {
                let unknown = || {
                    let choices: Vec<&str> = FORMATS.iter().map(|known| known.name()).collect();
                    let choices = choices.join(", ");
                    Error::Unsupported(format!("unknown format {format:?}: choose one of {choices}"))
                };
                let format = FORMATS.into_iter().find(|known| known.name() == format).ok_or_else(unknown)?;
                let modes = Modes { inputs: input_modes.clone(), outputs: output_modes.clone(), gates };
                let tree = tree.as_deref().map(str::parse).transpose()?;
                let options = Options { blocks: blocks.unwrap_or(Options::default().blocks), tree };
                let names = format.ranks(&modes, &options)?;
                let sizes: Vec<usize> = names.iter().filter_map(|name| ranks.get(name).copied()).collect();
                if sizes.len() != names.len() || ranks.len() != names.len() {
                    let (found, expected) = (ranks.keys(), names.join(", "));
                    return Err(Error::Unsupported(format!("ranks {found:?} where there are {expected}")));
                }
                let shape = FormatShape::with_ranks(format, &modes, &options, &sizes)?;
                let expected = listed(shape.network());
                if *cores != expected {
                    return Err(Error::Unsupported(format!("cores {cores:?} where there are {expected:?}")));
                }
                Some(Factors::Network(shape))
            }
        })
    }

    /// What the tensors of the weights are called behind the matrix's own name, and their shapes, in the order in which they
    /// lie in the parameter.
    ///
    /// # Errors
    /// As [`Matrix::factors`].
    pub(crate) fn tensors(&self, sides: Sides) -> Result<Vec<(String, Vec<usize>)>> {
        let Sides { features, gates, hidden } = sides;
        let cores: Vec<(String, Vec<usize>)> = match self.factors(gates)? {
            None => return Ok(vec![("kernel".into(), vec![features, gates * hidden])]),
            // The last core comes first.
            Some(Factors::Train(shape)) => (0..shape.order())
                .rev()
                .map(|k| {
                    let (m, n, ranks) = (shape.input_modes()[k], shape.output_mode(k), shape.ranks());
                    (format!("core.{}", k + 1), vec![m, ranks[k + 1], ranks[k], n])
                })
                .collect(),
            Some(Factors::Network(shape)) => {
                let network = shape.network();
                let size = |label: &usize| network.labels()[*label].size;
                let core = |core: &tt_core::network::Core| {
                    (format!("core.{}", core.name), core.labels.iter().map(size).collect())
                };
                network.cores().iter().map(core).collect()
            }
        };
        if self.count() == 1 {
            return Ok(cores);
        }
        let of_gate =
            |gate| cores.iter().map(move |(name, shape)| (format!("gate.{gate}.{name}"), shape.clone()));
        Ok((0..self.count()).flat_map(of_gate).collect())
    }
}
