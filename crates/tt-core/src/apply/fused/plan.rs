//! What follows from the shape alone: sizes, strides, block sizes and the order of the outputs.
//!
//! Step k multiplies core k into the running tensor, the last core first. `T_d` is the input row; step k
//! turns `T_{k+1} [q, i, rho, a]` into `T_k [q, rho, c]`, with
//! - q over the input modes before k (count `outer`), i over input mode k,
//! - rho over the output modes after k, the last one slowest (count `rho`),
//! - a over rank k+1 and c = (j, a') over output mode k and rank k, the rank fastest.
//!
//! So the rows (rho, j) of one step are the rho of the next, and no transpose is ever needed.

use crate::TtShape;

/// Sizes of one step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Input mode k.
    pub(super) m: usize,
    /// Output mode k, gates included.
    pub(super) n: usize,
    /// Rank k (left).
    pub(super) left: usize,
    /// Rank k + 1 (right).
    pub(super) right: usize,
    /// Columns c: `left * n`.
    pub(super) columns: usize,
    /// Columns rounded up to whole vectors.
    pub(super) width: usize,
    /// Rows rho: output modes after k.
    pub(super) rho: usize,
    /// Input modes before k.
    pub(super) outer: usize,
    /// Where core k starts in the flat vector.
    pub(super) offset: usize,
    /// Where `T_k` starts in a frame's saved tensors (k from 1 to d - 2).
    pub(super) saved: usize,
    /// Where dG_k `[m * right, width]` starts in an item's gradients.
    pub(super) gradient: usize,
    /// Where dT_k `[outer * rho, width]` starts in a frame's gradients (k up to d - 2).
    pub(super) flow: usize,
}

/// The plan of a shape for vectors of a given width.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Input and output features.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) params: usize,
    /// Numbers saved per frame, `T_1 … T_{d-2}`.
    pub(super) saved: usize,
    /// Numbers of the gradients of an item, padded.
    pub(super) gradient: usize,
    /// The gradient of the last two cores' product in an item's gradients, if that is how theirs are computed.
    pub(super) pair: Option<Pair>,
    /// Numbers of dT_0 … dT_{d-2} of a frame, padded.
    pub(super) flow: usize,
    /// For each output in natural order, its place in `T_0`.
    pub(super) order: Vec<u32>,
    /// The same where a row of `T_0` takes whole vectors, as in `dT_0`.
    pub(super) padded_order: Vec<u32>,
    /// Values of q of core d - 2 done at once, forward and backward.
    pub(super) block_forward: usize,
    pub(super) block_backward: usize,
}

/// Where an item holds the gradient of the last two cores' product, `[(i, i'), rho, width]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) start: usize,
    /// Numbers from one rho to the next.
    pub(super) width: usize,
}

/// Bytes of the working set of a block: forward, backward, backward through the pair. Well inside L2, which streams to L1 at the pace of
/// the kernels; smaller blocks lose more to calls and short sums than they win (measured on Zen 4).
const BLOCK_BYTES: (usize, usize, usize) = (96 << 10, 256 << 10, 128 << 10);

/// Largest gradient of a pair: it stays in L2 beside a block.
const PAIR_BYTES: usize = 512 << 10;

impl Plan {
    pub(super) fn new(shape: &TtShape, lanes: usize) -> Self {
        Self::with_pair(shape, lanes, |steps| {
            let [.., before, _] = steps else { return None };
            pays_as_pair(steps).then_some(before.width)
        })
    }

    /// The plan of a train of two cores or more whose last two get their gradients by digits.
    pub(super) fn by_digits(shape: &TtShape, lanes: usize) -> Self {
        Self::with_pair(shape, lanes, |steps| {
            let [.., before, _] = steps else { return None };
            Some(before.columns)
        })
    }

    /// The plan where `pair` says how wide the rows of a pair's gradient are, if there shall be one.
    fn with_pair(shape: &TtShape, lanes: usize, pair: impl Fn(&[Step]) -> Option<usize>) -> Self {
        let d = shape.order();
        let mut steps: Vec<Step> = (0..d)
            .map(|k| {
                let (rows, columns) = shape.core_matrix(k);
                Step {
                    m: shape.input_modes()[k],
                    n: shape.output_mode(k),
                    left: shape.ranks()[k],
                    right: rows / shape.input_modes()[k],
                    columns,
                    width: columns.next_multiple_of(lanes),
                    rho: (k + 1..d).map(|l| shape.output_mode(l)).product(),
                    outer: shape.input_modes()[..k].iter().product(),
                    offset: shape.core_offset(k),
                    saved: 0,
                    gradient: 0,
                    flow: 0,
                }
            })
            .collect();
        let (mut saved, mut gradient, mut flow) = (0, 0, 0);
        for (k, step) in steps.iter_mut().enumerate() {
            step.gradient = gradient;
            gradient += step.m * step.right * step.width;
            if k + 1 < d || d == 1 {
                step.flow = flow;
                flow += step.outer * step.rho * step.width;
            }
            if k > 0 && k + 1 < d {
                step.saved = saved;
                saved += step.outer * step.rho * step.columns;
            }
        }
        let pair = pair(&steps).map(|width| Pair { start: gradient.next_multiple_of(16), width });
        if let (Some(pair), [.., before, last]) = (pair, &steps[..]) {
            gradient = pair.start + before.m * last.m * before.rho * pair.width;
        }
        let (block_forward, block_backward) = blocks(&steps, pair.is_some());
        Self {
            inputs: shape.in_features(),
            outputs: shape.out_features(),
            params: shape.params(),
            saved,
            gradient,
            pair,
            flow,
            order: order(&steps, steps[0].n),
            padded_order: order(&steps, steps[0].width),
            block_forward,
            block_backward,
            steps,
        }
    }

    /// Multiply-accumulates of a row with columns padded to whole vectors.
    pub(super) fn padded_macs(shape: &TtShape, lanes: usize) -> usize {
        let steps = Self::new(shape, lanes).steps;
        steps.iter().map(|step| step.outer * step.rho * step.m * step.right * step.width).sum()
    }

    /// Rows of a work item of the backward pass; see [`super::item_rows`].
    pub(super) fn item_rows_back(&self, rows: usize) -> usize {
        // The gradient of a pair is large: half as many items.
        if self.pair.is_some() { rows.div_ceil(64).max(8) } else { super::item_rows(rows) }
    }

    /// The last step.
    pub(super) fn last(&self) -> &Step {
        &self.steps[self.steps.len() - 1]
    }
}

/// For each output in natural order (j_1 slowest) its place in `T_0 [rho, n_1]` (j_d slowest), of rows of `width`.
fn order(steps: &[Step], width: usize) -> Vec<u32> {
    let outputs: usize = steps.iter().map(|step| step.n).product();
    (0..outputs)
        .map(|natural| {
            let (mut rest, mut place, mut first) = (natural, 0, 0);
            for (k, step) in steps.iter().enumerate().rev() {
                let j = rest % step.n;
                rest /= step.n;
                if k == 0 {
                    first = j;
                } else {
                    place = place * step.n + j;
                }
            }
            (place * width + first) as u32
        })
        .collect()
}

/// Whether the gradients of the last two cores are cheaper to get from the gradient of their product.
///
/// Apart, a row costs both products again forwards (one of them recomputed) and backwards; as a pair it costs
/// one larger product. That wins from rank 5 on with the paper's shapes; at equal counts both are as fast.
fn pays_as_pair(steps: &[Step]) -> bool {
    let [.., before, last] = steps else { return false };
    let row = before.rho * before.width;
    let together = before.m * last.m * row;
    let apart = 2 * before.m * (last.m * last.width + before.right * row);
    before.outer >= 16 && 4 * together <= PAIR_BYTES && together <= apart
}

/// Block sizes over q of the second to last core.
fn blocks(steps: &[Step], pair: bool) -> (usize, usize) {
    let [.., before, last] = steps else { return (1, 1) };
    let forward = before.m * (last.m + last.columns);
    let backward = before.m * (last.m + last.columns + last.width) + before.columns * last.width;
    let divisor = |bytes: usize, each: usize| {
        let most = (bytes / (4 * each)).clamp(1, before.outer);
        (most.div_ceil(2)..=most).rev().find(|b| before.outer.is_multiple_of(*b)).unwrap_or(most)
    };
    if pair {
        let together = before.m * last.m + before.rho * before.width;
        return (divisor(BLOCK_BYTES.0, forward), divisor(BLOCK_BYTES.2, together));
    }
    (divisor(BLOCK_BYTES.0, forward), divisor(BLOCK_BYTES.1, backward))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_shape_saves_48_kilobytes() {
        let shape = TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 4, 3).unwrap();
        let plan = Plan::new(&shape, 16);
        assert_eq!(plan.saved * 4, 48 << 10);
        assert_eq!(plan.steps[2].outer, 160);
        assert_eq!(plan.steps[2].outer % plan.block_forward, 0);
    }

    #[test]
    fn pairs_pay_where_they_cost_less() {
        let pair = |modes: &[usize; 4], rank| {
            let shape = TtShape::uniform(modes, &[4; 4], rank, 3).unwrap();
            Plan::new(&shape, 16).pair.is_some()
        };
        assert!(!pair(&[8, 20, 20, 18], 4), "3,686,400 against 3,481,600 multiplications a frame");
        assert!(pair(&[8, 20, 20, 18], 8), "7,372,800 against 10,240,000");
        assert!(!pair(&[1, 2, 20, 36], 8), "two rows a frame are too few");
    }

    #[test]
    fn outputs_are_a_permutation() {
        let shape = TtShape::uniform(&[2, 3, 2], &[2, 3, 5], 2, 2).unwrap();
        let mut order = Plan::new(&shape, 8).order;
        assert_eq!(order[1], 3 * 4, "the second output is j_3 = 1: row j_3 j_2 of 4 columns");
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(k, &place)| k == place as usize));
    }
}
