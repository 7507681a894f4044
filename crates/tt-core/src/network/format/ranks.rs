//! Ranks of a format: one for all, given ones, or as large as a number of weights allows.

use super::{Format, FormatShape, Modes, Options};
use crate::error::count;
use crate::network::Network;
use crate::{Error, Result};

/// Numbers of a network, at most: a GiB of them.
const MOST: usize = 1 << 28;

impl FormatShape {
    /// All ranks the same, or the largest that are possible where that is less.
    ///
    /// # Errors
    /// [`Error::Shape`] for modes that the format cannot have or a rank of 0.
    pub fn uniform(
        format: &'static dyn Format,
        modes: &Modes,
        options: &Options,
        rank: usize,
    ) -> Result<Self> {
        let names = checked(format, modes, options)?;
        let mut ranks = vec![rank; names.len()];
        // A rank's bound depends on its neighbours: lowering one may lower the next.
        loop {
            let shape = Self::of(format, modes, options, ranks.clone())?;
            let Some((place, bound)) = impossible(&shape.network, &names) else { return shape.held() };
            ranks[place] = bound;
        }
    }

    /// Given ranks: one for all, or as many as [`Format::ranks`] names.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of ranks, or one above what its neighbours allow.
    pub fn with_ranks(
        format: &'static dyn Format,
        modes: &Modes,
        options: &Options,
        ranks: &[usize],
    ) -> Result<Self> {
        let names = checked(format, modes, options)?;
        let ranks = match ranks {
            [one] => vec![*one; names.len()],
            all if all.len() == names.len() => all.to_vec(),
            other => {
                return Err(Error::Shape(format!(
                    "{} of these modes has {} ranks ({}), found {other:?}: give one for all or all of them",
                    format.name(),
                    names.len(),
                    names.join(", "),
                )));
            }
        };
        let shape = Self::of(format, modes, options, ranks)?;
        match impossible(&shape.network, &names) {
            None => shape.held(),
            Some((place, bound)) => Err(Error::Shape(format!(
                "{}: rank {} is above {bound}, the largest that the indices beside it allow; ranks {:?} are {}",
                format.name(),
                names[place],
                shape.ranks,
                names.join(", "),
            ))),
        }
    }

    /// Refuses more numbers than would ever be held.
    fn held(self) -> Result<Self> {
        let numbers = self.network.params();
        if numbers > MOST {
            let (name, ranks) = (self.format.name(), &self.ranks);
            return Err(Error::Shape(format!(
                "{name} of ranks {ranks:?} has {numbers} numbers, and {MOST} is the most: lower the ranks"
            )));
        }
        Ok(self)
    }

    /// The largest ranks whose weights are at most `budget`, and never more than a layer may have: as large as they can be the
    /// same, then one after the other raised by one, each time the one that comes closest.
    ///
    /// # Errors
    /// [`Error::Shape`] where ranks of 1 have more weights than that.
    pub fn within(
        format: &'static dyn Format,
        modes: &Modes,
        options: &Options,
        budget: usize,
    ) -> Result<Self> {
        let budget = budget.min(MOST);
        let names = checked(format, modes, options)?;
        let mut best = Self::uniform(format, modes, options, 1)?;
        if best.network.params() > budget {
            return Err(Error::Shape(format!(
                "{} weights are asked for, and the smallest {} of these modes has {}",
                budget,
                format.name(),
                best.network.params()
            )));
        }
        let fits = |shape: &Self| shape.network.params() <= budget;
        let (mut rank, mut above) = (1, usize::MAX);
        while above - rank > 1 {
            let next = if above == usize::MAX { 2 * rank } else { rank.midpoint(above) };
            match Self::uniform(format, modes, options, next).ok().filter(fits) {
                // All of them are as large as their neighbours allow.
                Some(shape) if shape.ranks == best.ranks => break,
                Some(shape) => (rank, best) = (next, shape),
                None => above = next,
            }
        }
        loop {
            let raise = |places: &[usize]| {
                let mut ranks = best.ranks.clone();
                for place in places {
                    ranks[*place] += 1;
                }
                let shape = Self::of(format, modes, options, ranks).ok()?;
                let fits = shape.network.params() <= budget && impossible(&shape.network, &names).is_none();
                fits.then_some(shape)
            };
            let count = best.ranks.len();
            // Two at once where none can be raised alone: one rank above 1 beside ranks of 1 is impossible.
            let alone = (0..count).filter_map(|k| raise(&[k])).collect::<Vec<_>>();
            let pairs = (0..count).flat_map(|k| (k + 1..count).map(move |l| [k, l]));
            let raised =
                if alone.is_empty() { pairs.filter_map(|pair| raise(&pair)).collect() } else { alone };
            // The first of equals.
            let larger = |a: Self, b: Self| if b.network.params() > a.network.params() { b } else { a };
            match raised.into_iter().reduce(larger) {
                Some(shape) => best = shape,
                None => return Ok(best),
            }
        }
    }
}

fn checked(format: &dyn Format, modes: &Modes, options: &Options) -> Result<Vec<String>> {
    let Modes { inputs, outputs, gates } = modes;
    if inputs.is_empty() || outputs.is_empty() || inputs.iter().chain(outputs).chain([gates]).any(|v| *v == 0)
    {
        return Err(Error::Shape(format!(
            "modes {inputs:?}, {outputs:?} and {gates} gates must all be at least 1"
        )));
    }
    if options.blocks == 0 {
        return Err(Error::Shape("0 blocks: a block-term decomposition has at least 1".into()));
    }
    count("output mode", &[outputs[0], *gates])?;
    format.ranks(modes, options)
}

/// The place of a rank of more values than make a difference, and how many do: of a bond of two cores as many as the other
/// bonds and modes of either have together. Indices of more cores than two have no such bound, and inner indices that are
/// no ranks, as that of blocks, are what they are.
fn impossible(network: &Network, ranks: &[String]) -> Option<(usize, usize)> {
    let cores_of = |label: usize| network.cores.iter().filter(move |core| core.labels.contains(&label));
    let outside = network.inputs.len() + network.outputs.len();
    let shared = |label: usize| label >= outside && cores_of(label).count() > 2;
    (outside..network.labels.len()).find_map(|label| {
        let place = ranks.iter().position(|rank| *rank == network.labels[label].name)?;
        if shared(label) {
            return None;
        }
        let beside = |core: &crate::network::Core| -> usize {
            let others = core.labels.iter().filter(|other| **other != label && !shared(**other));
            others.map(|other| network.labels[*other].size).fold(1, usize::saturating_mul)
        };
        let of_both = cores_of(label).map(beside).min().unwrap_or(1);
        // In one core alone it is a sum over copies.
        let bound = if cores_of(label).count() == 1 { 1 } else { of_both };
        (network.labels[label].size > bound).then_some((place, bound))
    })
}
