//! The cheapest order of contractions: dynamic programming over sets of cores.
//!
//! Every order contracts the row with one tensor after the other, each of them a core or cores merged before. A set of
//! cores so has one best merged tensor, whose cost counts once a call, and one best way to bring it into the row. The
//! indices of both follow from the set alone, so that `3^n` pairs of sets are all that there is to compare.

use super::Network;
use super::axes::{Set, Vectors};
use super::panels::SCATTERED;
use crate::simd::Isa;

/// Rows of a call, over which the cost of contractions among cores alone is shared.
const ROWS: f64 = 1024.0;
/// Numbers of a merged tensor at most, beyond which its gradients would not fit a cache for each work item.
const MERGED: f64 = 131_072.0;

/// Cost of a number that is written and read again, in vector operations.
const MOVED: f64 = 0.125;

/// What the cheapest order is cheapest in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// Multiply-accumulates of a forward pass, those among cores shared by `rows` rows.
    Products {
        /// Rows of a call.
        rows: usize,
    },
    /// Time of a training step: products forwards and backwards with columns padded to whole vectors, and numbers moved.
    Time {
        /// What the vectors are of.
        isa: Isa,
    },
}

/// A core, or cores that are contracted before a row meets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// A core of the network.
    Core(usize),
    /// Two tensors contracted.
    Pair(Box<Merge>, Box<Merge>),
}

/// An order of contractions.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What a row is contracted with, one after the other.
    pub steps: Vec<Merge>,
    /// Multiply-accumulates a row.
    pub macs_per_row: usize,
    /// Multiply-accumulates among cores alone, once a call.
    pub macs_per_call: usize,
    /// What was minimized.
    pub cost: f64,
}

/// Labels and sizes of a network as bit sets. Indices of one value are no indices.
pub(super) struct Indices {
    /// The cores that have a label.
    of_label: Vec<Set>,
    input: Set,
    output: Set,
    /// Products of sizes, for each group of eight labels and each subset of it.
    products: Vec<[f64; 256]>,
    all: Set,
}

impl Indices {
    pub(super) fn new(network: &Network) -> Self {
        let set = |labels: &[usize]| {
            labels
                .iter()
                .filter(|label| network.labels[**label].size > 1)
                .fold(0, |set, label| set | 1 << label)
        };
        let cores: Vec<Set> = network.cores.iter().map(|core| set(&core.labels)).collect();
        let of = |label: usize| {
            let has = |core: &Set| u64::from(core >> label & 1 == 1);
            cores.iter().enumerate().fold(0, |set, (core, labels)| set | has(labels) << core)
        };
        let labels = network.labels.len();
        let size = |label: usize| if label < labels { network.labels[label].size as f64 } else { 1.0 };
        let products = (0..labels.div_ceil(8))
            .map(|group| {
                std::array::from_fn(|subset| {
                    (0..8).filter(|bit| subset >> bit & 1 == 1).map(|bit| size(8 * group + bit)).product()
                })
            })
            .collect();
        Self {
            of_label: (0..labels).map(of).collect(),
            input: set(&network.inputs),
            output: set(&network.outputs),
            products,
            all: (1 << network.cores.len()) - 1,
        }
    }

    /// The product of the sizes of some labels.
    fn size(&self, labels: Set) -> f64 {
        let group = |(k, products): (usize, &[f64; 256])| products[(labels >> (8 * k) & 0xff) as usize];
        self.products.iter().enumerate().map(group).product()
    }

    /// The labels of the tensor that some cores make: theirs that are seen outside.
    pub(super) fn of_cores(&self, cores: Set) -> Set {
        self.open(cores, false)
    }

    /// The labels of the row once some cores are in it.
    pub(super) fn of_row(&self, cores: Set) -> Set {
        self.open(cores, true)
    }

    fn open(&self, cores: Set, row: bool) -> Set {
        let mut open = 0;
        for (label, of) in self.of_label.iter().enumerate() {
            let bit = 1 << label;
            let inside = of & cores != 0 || (row && self.input & bit != 0);
            let outside =
                self.output & bit != 0 || (!row && self.input & bit != 0) || of & self.all & !cores != 0;
            if inside && outside {
                open |= bit;
            }
        }
        open
    }

    /// The cost of contracting `right` into `left`, which leaves `out`; in operations on vectors, if there are some.
    fn cost(&self, vectors: Option<Vectors>, (left, right, out): (Set, Set, Set), first: bool) -> f64 {
        let products = self.size(left | right);
        let Some(vectors) = vectors else { return products };
        let padded = |numbers: f64| products / numbers * vectors.fitting(numbers).1;
        let (columns, summed) = (self.size(right & !left), left & right & !out);
        // What is too large to be kept is computed twice.
        let again = f64::from(u8::from(self.size(out) > self.size(self.input) / 4.0));
        // Forwards, and backwards for the gradient of what comes from the right.
        let mut cost = (2.0 + again) * padded(columns);
        if !first {
            // Backwards for the left, whose axes are then brought into their order.
            cost += padded(self.size(summed)) + SCATTERED * self.size(left);
            // What stays of the axes that cores brought can be lanes, if nothing else of them is summed over.
            if summed & !self.input == 0 {
                cost = cost.min((3.0 + again) * padded(self.size(left & out & !self.input)));
            }
        }
        cost + MOVED * (2.0 * self.size(out) + self.size(right))
    }
}

impl Plan {
    /// The cheapest order.
    pub fn new(network: &Network, objective: Objective) -> Self {
        let indices = Indices::new(network);
        let sets = 1_usize << network.cores.len();
        let of_cores: Vec<Set> = (0..sets).map(|set| indices.of_cores(set as Set)).collect();
        let of_row: Vec<Set> = (0..sets).map(|set| indices.of_row(set as Set)).collect();
        let (rows, vectors) = match objective {
            Objective::Products { rows } => (rows as f64, None),
            Objective::Time { isa } => (ROWS, Some(Vectors::of(isa))),
        };
        // Among cores: the halves of each set.
        let mut merged = vec![(f64::INFINITY, 0_usize); sets];
        for set in 1..sets {
            if set.is_power_of_two() {
                merged[set] = (0.0, 0);
                continue;
            }
            if vectors.is_some() && indices.size(of_cores[set]) > MERGED {
                continue;
            }
            let lowest = set & set.wrapping_neg();
            let rest = set & !lowest;
            let mut part = rest;
            while part > 0 {
                part = (part - 1) & rest;
                let (left, right) = (part | lowest, set & !(part | lowest));
                let cost = merged[left].0 + merged[right].0 + indices.size(of_cores[left] | of_cores[right]);
                if cost < merged[set].0 {
                    merged[set] = (cost, left);
                }
            }
        }
        // Into the row: the last set that came in.
        let mut best = vec![(f64::INFINITY, 0_usize); sets];
        best[0] = (0.0, 0);
        for set in 1..sets {
            let mut part = set;
            while part > 0 {
                let before = set & !part;
                let labels = (of_row[before], of_cores[part], of_row[set]);
                if best[before].0 < best[set].0 && merged[part].0 < f64::INFINITY {
                    let step = indices.cost(vectors, labels, before == 0);
                    let cost = best[before].0 + step + merged[part].0 / rows;
                    if cost < best[set].0 {
                        best[set] = (cost, part);
                    }
                }
                part = (part - 1) & set;
            }
        }
        let (mut steps, mut set) = (Vec::new(), sets - 1);
        let (mut per_row, mut per_call) = (0.0, 0.0);
        while set > 0 {
            let part = best[set].1;
            let before = set & !part;
            per_row += indices.size(of_row[before] | of_cores[part]);
            per_call += merged[part].0;
            steps.push(tree(&merged, part));
            set = before;
        }
        steps.reverse();
        let cost = best[sets - 1].0;
        Self { steps, macs_per_row: per_row as usize, macs_per_call: per_call as usize, cost }
    }
}

fn tree(merged: &[(f64, usize)], set: usize) -> Merge {
    if set.is_power_of_two() {
        return Merge::Core(set.trailing_zeros() as usize);
    }
    let left = merged[set].1;
    Merge::Pair(Box::new(tree(merged, left)), Box::new(tree(merged, set & !left)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{FORMATS, FormatShape, Modes, Options};

    /// The least cost of bringing what is left of the cores into the row, every order and every merge of each tried.
    fn least(indices: &Indices, vectors: Option<Vectors>, rows: f64, before: usize) -> f64 {
        let all = indices.all as usize;
        let rest = all & !before;
        if rest == 0 {
            return 0.0;
        }
        let with = |part: usize| {
            let labels = (
                indices.of_row(before as Set),
                indices.of_cores(part as Set),
                indices.of_row((before | part) as Set),
            );
            let step = indices.cost(vectors, labels, before == 0);
            step + merges(indices, vectors, part) / rows + least(indices, vectors, rows, before | part)
        };
        (1..=all).filter(|part| part & !rest == 0).map(with).fold(f64::INFINITY, f64::min)
    }

    /// The least cost of merging some cores, every way to halve them tried.
    fn merges(indices: &Indices, vectors: Option<Vectors>, set: usize) -> f64 {
        if set.is_power_of_two() {
            return 0.0;
        }
        if vectors.is_some() && indices.size(indices.of_cores(set as Set)) > MERGED {
            return f64::INFINITY;
        }
        let halves = (1..set).filter(|half| half & !set == 0);
        let cost = halves.map(|half| {
            let both = indices.of_cores(half as Set) | indices.of_cores((set & !half) as Set);
            let below = merges(indices, vectors, half) + merges(indices, vectors, set & !half);
            below + indices.size(both)
        });
        cost.fold(f64::INFINITY, f64::min)
    }

    /// What is carried out is the cheapest in time by the planner's own costs; `tests/networks.rs` counts products.
    #[test]
    fn no_order_is_cheaper() {
        for format in FORMATS {
            for (inputs, outputs) in [(vec![40, 30], vec![2, 9]), (vec![3, 8, 2], vec![2, 5, 1])] {
                for (rank, gates) in [(2, 3), (5, 4)] {
                    let modes = Modes { inputs: inputs.clone(), outputs: outputs.clone(), gates };
                    let shape = FormatShape::uniform(format, &modes, &Options::default(), rank).unwrap();
                    let indices = Indices::new(shape.network());
                    for isa in Isa::available() {
                        let plan = Plan::new(shape.network(), Objective::Time { isa });
                        let best = least(&indices, Some(Vectors::of(isa)), ROWS, 0);
                        assert!((plan.cost / best - 1.0).abs() < 1e-12, "{shape}: {} not {best}", plan.cost);
                    }
                }
            }
        }
    }
}
