//! The recurrence on CUDA: one persistent kernel a pass, compiled at run time for its cell and sizes.
//!
//! The text of the kernels ([`source`]), how the work is dealt (`plan.rs`) and their arguments are plain data, tested
//! on the CPU in emulation; only `Persistent` needs a GPU, and the feature `cuda`.

#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod persistent;
mod plan;
mod record;

use super::{Cell, GateActivation};
#[cfg(feature = "cuda")]
pub use persistent::Persistent;
pub use plan::{Card, Pass, Plan, plan};
pub use record::Record;
use tt_core::cuda::Source;

/// The kernels of one cell with the sizes of a plan, for `masks` dropout masks: none, one for all gates, or G.
pub fn source(cell: Cell, hidden: usize, gate: GateActivation, masks: usize, plan: &Plan) -> Source {
    let number = match cell {
        Cell::Rnn => 0,
        Cell::Gru => 1,
        Cell::Lstm => 2,
    };
    let body = concat!(
        include_str!("group.cu"),
        include_str!("exchange.cu"),
        include_str!("block.cu"),
        include_str!("forward.cu"),
        include_str!("backward.cu")
    );
    Source::new("recurrence.cu", body)
        .define("CELL", number)
        .define("HIDDEN", hidden)
        .define("PEERS", plan.peers)
        .define("UNITS", plan.units)
        .define("ROWS", plan.rows)
        .define("HARD", usize::from(gate == GateActivation::HardSigmoid))
        .define("MASKS", masks.min(2))
        .define("THREADS", plan.threads)
        .define("CLUSTER", usize::from(plan.cluster))
}

/// Index, first packed row and frames of each clip, the longest first, `[B, 3]`.
pub fn sorted(lengths: &[usize]) -> Vec<u32> {
    let mut first = 0;
    let mut clips: Vec<[u32; 3]> = lengths
        .iter()
        .enumerate()
        .map(|(clip, &length)| {
            first += length;
            [clip as u32, (first - length) as u32, length as u32]
        })
        .collect();
    clips.sort_by_key(|[_, _, length]| std::cmp::Reverse(*length));
    clips.concat()
}
