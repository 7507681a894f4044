//! Modes and ranks for a matrix of any size and a budget of weights.

use crate::{Error, Result, TtShape};

/// A proposal of [`plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Modes, ranks and gate factor.
    pub shape: TtShape,
    /// Whether a mode is larger than twice the balanced one: M or N has a large prime factor.
    pub unbalanced: bool,
}

/// `n` as a product of `d` factors as equal as its prime factors allow, ascending.
///
/// # Errors
/// [`Error::Shape`] for 0.
pub fn balanced_modes(n: usize, d: usize) -> Result<Vec<usize>> {
    if n == 0 || d == 0 {
        return Err(Error::Shape(format!("{n} as a product of {d} modes: both must be at least 1")));
    }
    let mut primes = Vec::new();
    let (mut rest, mut prime) = (n, 2);
    while prime <= rest / prime {
        while rest.is_multiple_of(prime) {
            primes.push(prime);
            rest /= prime;
        }
        prime += 1;
    }
    if rest > 1 {
        primes.push(rest);
    }
    let mut modes = vec![1_usize; d];
    for prime in primes.into_iter().rev() {
        if let Some(smallest) = modes.iter_mut().min() {
            *smallest *= prime;
        }
    }
    modes.sort_unstable();
    Ok(modes)
}

/// The train of `d` cores for `W [M, gates · N]` with the largest uniform rank within a budget of weights; ranks that a
/// cut cannot have are the largest it can.
///
/// # Errors
/// [`Error::Shape`] for a size of 0, or where even rank 1 is over the budget; [`Error::Size`] for counts beyond a
/// machine's.
pub fn plan(in_features: usize, out_features: usize, gates: usize, d: usize, budget: usize) -> Result<Plan> {
    let (rows, mut columns) = (balanced_modes(in_features, d)?, balanced_modes(out_features, d)?);
    // Large input modes meet small output modes: the products m_k n_k are what a core pays for.
    columns.reverse();
    let of_rank = |rank| TtShape::uniform(&rows, &columns, rank, gates);
    let smallest = of_rank(1)?;
    if smallest.params() > budget {
        return Err(Error::Shape(format!(
            "{in_features} x {out_features} with {gates} gates in {d} cores takes {} weights at rank 1, the budget is {budget}",
            smallest.params()
        )));
    }
    // A rank beyond the budget costs more than the budget; one whose weights cannot be counted does, too.
    let (mut low, mut high) = (1, smallest.largest_ranks().into_iter().fold(1, usize::max).min(budget));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if of_rank(middle).is_ok_and(|shape| shape.params() <= budget) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let skewed = |modes: &[usize], n: usize| {
        modes.iter().any(|mode| *mode as f64 > 2.0 * (n as f64).powf(1.0 / d as f64).max(1.0))
    };
    Ok(Plan {
        unbalanced: skewed(&rows, in_features) || skewed(&columns, out_features),
        shape: of_rank(low)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_balanced_and_multiply_back() {
        assert_eq!(balanced_modes(57_600, 4).unwrap(), [12, 12, 20, 20]);
        assert_eq!(balanced_modes(256, 4).unwrap(), [4, 4, 4, 4]);
        assert_eq!(balanced_modes(7, 3).unwrap(), [1, 1, 7]);
        assert!(balanced_modes(0, 2).is_err());
        for n in 1..500 {
            assert_eq!(balanced_modes(n, 3).unwrap().iter().product::<usize>(), n);
        }
    }

    #[test]
    fn a_plan_spends_its_budget_and_no_more() {
        let found = plan(57_600, 256, 3, 4, 4000).unwrap();
        let next = TtShape::uniform(found.shape.input_modes(), &[4, 4, 4, 4], found.shape.ranks()[1] + 1, 3)
            .unwrap();
        assert!(found.shape.params() <= 4000 && next.params() > 4000 && !found.unbalanced);
        assert!(plan(57_600, 256, 3, 4, 10).is_err());
        assert!(plan(2 * 104_729, 4, 1, 3, 1_000_000).unwrap().unbalanced);
    }

    #[test]
    fn with_all_the_budget_every_rank_is_the_largest_possible() {
        let ranks = |m, n, gates, d, budget| plan(m, n, gates, d, budget).unwrap().shape.ranks().to_vec();
        assert_eq!(ranks(1024, 1, 1, 3, 1_000_000_000_000), [1, 8, 16, 1]);
        assert_eq!(ranks(57_600, 256, 3, 3, 1_000_000_000_000), [1, 864, 160, 1]);
        assert_eq!(ranks(6, 1, 3, 2, 1000), [1, 3, 1]);
        for (m, n, gates, d) in [(1, 1024, 1, 3), (30, 7, 4, 4), (5, 1, 1, 1), (1, 1, 7, 3)] {
            let shape = plan(m, n, gates, d, usize::MAX).unwrap().shape;
            let (sides, d) = (|k| shape.input_modes()[k] * shape.output_mode(k), shape.order());
            for k in 1..d {
                let (before, after) = ((0..k).map(sides).product::<usize>(), (k..d).map(sides).product());
                assert_eq!(shape.ranks()[k], before.min(after), "{m} x {n}, {gates} gates, cut {k}");
            }
        }
    }

    #[test]
    fn no_larger_rank_fits_the_budget() {
        for budget in [200, 1_000, 10_000, 100_000] {
            let shape = plan(720, 64, 3, 3, budget).unwrap().shape;
            let n: Vec<usize> = (0..3).map(|k| shape.output_mode(k) / if k == 0 { 3 } else { 1 }).collect();
            let rank = *shape.ranks().iter().max().unwrap();
            let next = TtShape::uniform(shape.input_modes(), &n, rank + 1, 3).unwrap();
            assert!(shape.params() <= budget && (next.params() > budget || next == shape), "{budget}");
        }
    }
}
