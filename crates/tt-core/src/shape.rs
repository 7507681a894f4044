//! The shape of a TT-matrix: modes, ranks, gate factor, and every count that follows from them.

use crate::error::count;
use crate::{Error, Result};

/// Modes and ranks of a TT-matrix `W [M, N]`, `M = prod m_k`, `N = gates * prod n_k`.
///
/// The gate factor multiplies the first output mode, so that one train feeds all gates of a recurrent cell.
///
/// # Layout
/// All cores live in one flat vector in the order of the released code: the *last* core first. Core k is a
/// row-major matrix `[m_k * r_k, r_{k-1} * n_k]`, row index `(i_k, a_k)` with `a_k` fastest, column index
/// `(a_{k-1}, j_k)` with `j_k` fastest. Inputs are row-major over `(i_1 … i_d)`, outputs over `(j_1 … j_d)`
/// with `j_1` (and with it the gate) slowest.
///
/// # Paper
/// Yang, Krompass, Tresp 2017, the Tensor-Train layer; the flat layout is that of their released code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Fields"))]
pub struct TtShape {
    input_modes: Vec<usize>,
    output_modes: Vec<usize>,
    ranks: Vec<usize>,
    gates: usize,
}

/// What serde reads before it is checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct Fields {
    input_modes: Vec<usize>,
    output_modes: Vec<usize>,
    ranks: Vec<usize>,
    gates: usize,
}

#[cfg(feature = "serde")]
impl TryFrom<Fields> for TtShape {
    type Error = Error;

    fn try_from(read: Fields) -> Result<Self> {
        Self::new(&read.input_modes, &read.output_modes, &read.ranks, read.gates)
    }
}

impl TtShape {
    /// Checks and builds a shape: `ranks` has one entry more than the modes and both its ends are 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if a list is empty or of the wrong length, or holds a zero; [`Error::Size`] if features, weights
    /// or multiply-accumulates are beyond what a machine can count.
    pub fn new(input_modes: &[usize], output_modes: &[usize], ranks: &[usize], gates: usize) -> Result<Self> {
        Self::uncounted(input_modes, output_modes, ranks, gates)?.counted()
    }

    fn uncounted(
        input_modes: &[usize],
        output_modes: &[usize],
        ranks: &[usize],
        gates: usize,
    ) -> Result<Self> {
        let d = input_modes.len();
        if d == 0 || output_modes.len() != d || ranks.len() != d + 1 {
            return Err(Error::Shape(format!(
                "{d} input modes need as many output modes and one rank more, found {} output modes and {} ranks",
                output_modes.len(),
                ranks.len()
            )));
        }
        if input_modes.iter().chain(output_modes).chain(ranks).any(|&v| v == 0) || gates == 0 {
            return Err(Error::Shape(format!(
                "modes {input_modes:?}, {output_modes:?}, ranks {ranks:?} and {gates} gates must all be at least 1"
            )));
        }
        if ranks[0] != 1 || ranks[d] != 1 {
            return Err(Error::Shape(format!("the first and last rank must be 1, found {ranks:?}")));
        }
        Ok(Self {
            input_modes: input_modes.to_vec(),
            output_modes: output_modes.to_vec(),
            ranks: ranks.to_vec(),
            gates,
        })
    }

    /// A shape whose inner ranks are all `rank`, or the largest possible where that is less: no unfolding of the
    /// matrix has a rank above its smaller side.
    ///
    /// # Errors
    /// As [`TtShape::new`].
    pub fn uniform(input_modes: &[usize], output_modes: &[usize], rank: usize, gates: usize) -> Result<Self> {
        let mut ranks = vec![rank; input_modes.len() + 1];
        if let [first, .., last] = ranks.as_mut_slice() {
            (*first, *last) = (1, 1);
        }
        Self::uncounted(input_modes, output_modes, &ranks, gates)?.clamped().counted()
    }

    /// The same with no rank larger than possible.
    fn clamped(mut self) -> Self {
        let largest = self.largest_ranks();
        self.ranks.iter_mut().zip(largest).for_each(|(rank, largest)| *rank = (*rank).min(largest));
        self
    }

    /// The largest ranks that a train of these modes can have, `r_0 … r_d`: the smaller side of each unfolding.
    pub(crate) fn largest_ranks(&self) -> Vec<usize> {
        let sides = |modes: std::ops::Range<usize>| {
            modes.fold(1_usize, |side, k| {
                let gates = if k == 0 { self.gates } else { 1 };
                [self.input_modes[k], self.output_modes[k], gates]
                    .into_iter()
                    .fold(side, usize::saturating_mul)
            })
        };
        let d = self.order();
        (0..=d).map(|k| sides(0..k).min(sides(k..d))).collect()
    }

    /// Refuses a shape whose features, weights or multiply-accumulates are beyond counting.
    fn counted(self) -> Result<Self> {
        count("input features", &self.input_modes)?;
        count("output features", &[&[self.gates], &self.output_modes[..]].concat())?;
        let (d, mut weights, mut products) = (self.order(), 0_usize, 0_usize);
        for k in 0..d {
            let gates = if k == 0 { self.gates } else { 1 };
            let modes = [self.input_modes[k], self.output_modes[k], gates];
            let core = [&modes[..], &self.ranks[k..k + 2]].concat();
            let (inputs, outputs) = (&self.input_modes[..k], &self.output_modes[k + 1..]);
            let row = count("multiply-accumulates", &[&core, inputs, outputs].concat())?;
            let sums = weights.checked_add(count("core", &core)?).zip(products.checked_add(row));
            (weights, products) = sums.ok_or_else(|| Error::Size {
                what: "multiply-accumulates",
                expected: format!("at most {}", usize::MAX),
                found: format!("more, with input modes {:?} and ranks {:?}", self.input_modes, self.ranks),
            })?;
        }
        Ok(self)
    }

    /// The same train with another gate factor; ranks that it cannot have are clamped.
    ///
    /// # Errors
    /// [`Error::Shape`] if `gates` is 0.
    pub fn with_gates(&self, gates: usize) -> Result<Self> {
        Self::uncounted(&self.input_modes, &self.output_modes, &self.ranks, gates)?.clamped().counted()
    }

    /// Number of cores d.
    pub fn order(&self) -> usize {
        self.input_modes.len()
    }

    /// Input modes `m_1 … m_d`.
    pub fn input_modes(&self) -> &[usize] {
        &self.input_modes
    }

    /// Output modes `n_1 … n_d`, the gate factor left out.
    pub fn output_modes(&self) -> &[usize] {
        &self.output_modes
    }

    /// Output mode `n_k` of core `k` (from 0), the gate factor included in the first.
    pub fn output_mode(&self, k: usize) -> usize {
        self.output_modes[k] * if k == 0 { self.gates } else { 1 }
    }

    /// Ranks `r_0 … r_d`.
    pub fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// Gates that share the train.
    pub fn gates(&self) -> usize {
        self.gates
    }

    /// Input features M.
    pub fn in_features(&self) -> usize {
        self.input_modes.iter().product()
    }

    /// Output features N, all gates together.
    pub fn out_features(&self) -> usize {
        self.gates * self.output_modes.iter().product::<usize>()
    }

    /// Rows and columns of core `k` (from 0) as a matrix: `[m_k * r_k, r_{k-1} * n_k]`.
    pub fn core_matrix(&self, k: usize) -> (usize, usize) {
        (self.input_modes[k] * self.ranks[k + 1], self.ranks[k] * self.output_mode(k))
    }

    /// Numbers in core `k` (from 0).
    pub fn core_len(&self, k: usize) -> usize {
        let (rows, columns) = self.core_matrix(k);
        rows * columns
    }

    /// Where core `k` (from 0) starts in the flat vector: the last core is at 0.
    pub fn core_offset(&self, k: usize) -> usize {
        (k + 1..self.order()).map(|later| self.core_len(later)).sum()
    }

    /// Numbers in all cores together.
    ///
    /// # Paper
    /// `sum_k m_k n_k r_{k-1} r_k + (c - 1) m_1 n_1 r_0 r_1` (the deck's r*, numerator).
    pub fn params(&self) -> usize {
        (0..self.order()).map(|k| self.core_len(k)).sum()
    }

    /// Multiply-accumulates of one row through the train, last core first (the cheapest order).
    pub fn macs_per_row(&self) -> usize {
        (0..self.order())
            .map(|k| {
                let before: usize = self.input_modes[..k].iter().product();
                let after: usize = (k + 1..self.order()).map(|j| self.output_mode(j)).product();
                before * after * self.core_len(k)
            })
            .sum()
    }
}

impl std::fmt::Display for TtShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (m, n) = (&self.input_modes, &self.output_modes);
        write!(f, "{} x {} in modes {m:?} x {n:?}", self.in_features(), self.out_features())?;
        if self.gates > 1 {
            write!(f, " with {} gates", self.gates)?;
        }
        write!(f, " and ranks {:?}: {} weights", self.ranks, self.params())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ucf11(rank: usize, gates: usize) -> TtShape {
        TtShape::uniform(&[8, 20, 20, 18], &[4, 4, 4, 4], rank, gates).unwrap()
    }

    #[test]
    fn deck_table_1() {
        for (rank, ttl, lstm, gru) in
            [(3, 1_752, 2_040, 1_944), (4, 2_976, 3_360, 3_232), (5, 4_520, 5_000, 4_840)]
        {
            assert_eq!(ucf11(rank, 1).params(), ttl);
            assert_eq!(ucf11(rank, 4).params(), lstm);
            assert_eq!(ucf11(rank, 3).params(), gru);
        }
        assert_eq!((ucf11(4, 3).in_features(), ucf11(4, 3).out_features()), (57_600, 768));
    }

    #[test]
    fn a_shape_says_what_it_is() {
        let text = "57600 x 768 in modes [8, 20, 20, 18] x [4, 4, 4, 4] with 3 gates and ranks [1, 4, 4, 4, 1]: 3232 weights";
        assert_eq!(ucf11(4, 3).to_string(), text);
    }

    #[test]
    fn macs_of_the_paper_shape() {
        assert_eq!(ucf11(4, 3).macs_per_row(), 1_929_216);
        assert_eq!(ucf11(4, 4).macs_per_row(), 1_937_408);
    }

    #[test]
    fn the_last_core_comes_first() {
        let shape = ucf11(4, 3);
        assert_eq!(shape.core_offset(3), 0);
        assert_eq!(shape.core_offset(2), 18 * 16);
        assert_eq!(shape.core_offset(0) + shape.core_len(0), shape.params());
    }

    #[test]
    fn counts_beyond_a_machine_are_refused() {
        let size = |shape: Result<TtShape>| matches!(shape, Err(Error::Size { .. }));
        assert!(size(TtShape::uniform(&[1 << 16; 5], &[1; 5], 1, 1)), "input features");
        assert!(size(TtShape::uniform(&[1; 4], &[1 << 16; 4], 1, 2)), "output features");
        assert!(size(TtShape::new(&[1 << 32, 2], &[1, 1], &[1, 1 << 32, 1], 1)), "a core");
        assert!(size(TtShape::uniform(&[1 << 20; 3], &[1 << 20; 3], 1, 1)), "multiply-accumulates");
        assert!(size(TtShape::uniform(&[2], &[2], 1, 1).unwrap().with_gates(usize::MAX)), "gates");
        let clamped = TtShape::uniform(&[4, 5], &[1, 1], usize::MAX, 1).unwrap();
        assert_eq!(clamped.ranks(), [1, 4, 1], "a rank is clamped before it is counted");
    }

    #[test]
    fn impossible_shapes_are_named() {
        let text = TtShape::uniform(&[4, 4], &[2, 2], 0, 1).unwrap_err().to_string();
        assert!(text.contains("at least 1"), "{text}");
        let text = TtShape::new(&[4, 4], &[2], &[1, 2, 1], 1).unwrap_err().to_string();
        assert!(text.contains("1 output modes"), "{text}");
    }
}
