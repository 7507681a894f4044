//! How a recurrence is dealt to the processors of a device; plain numbers, no device needed.

use super::super::Cell;
use tt_core::cuda::Launch;

/// Threads of a block.
pub(super) const THREADS: usize = 256;

/// Units of one product tile in the kernel.
const TILE: usize = 4;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Last states, and in training the record.
    Forward,
    /// The gradient of the pre-activations from the record.
    Backward,
}

/// Groups of blocks, each block with a slice of the units, each group with some of the clips; the same for both
/// passes. No number that the kernels compute depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Groups of blocks.
    pub groups: usize,
    /// P, blocks of a group.
    pub peers: usize,
    /// Units of a block; the last of a group may have fewer.
    pub units: usize,
    /// Clips that a group takes at once; if it has more, it takes them one lot after another.
    pub rows: usize,
    /// Shared memory of a block.
    pub shared_bytes: usize,
    /// Threads of a block.
    pub threads: usize,
}

impl Plan {
    /// The launch of one pass.
    pub fn launch(&self, pass: Pass) -> Launch {
        let kernel = match pass {
            Pass::Forward => "recurrence_forward",
            Pass::Backward => "recurrence_backward",
        };
        Launch::new(kernel, self.groups * self.peers, self.threads, self.shared_bytes).cooperative()
    }

    /// Words of 8 bytes through which blocks exchange numbers, zero before every launch.
    pub fn exchange(&self, cell: Cell, hidden: usize) -> usize {
        self.groups * 2 * cell.gates() * self.rows * hidden
    }

    /// Lots that the fullest group takes one after another.
    pub fn lots(&self, clips: usize) -> usize {
        clips.div_ceil(self.groups).div_ceil(self.rows)
    }
}

/// The quickest way to run `clips` clips on `processors` multiprocessors whose blocks can have `shared_bytes` each;
/// `None` if the weights do not fit into the shared memory of all of them.
///
/// Few blocks in a group wait little for each other, many have little to multiply. The costs weighed here are
/// estimates (cycles of an exchange and of each block in it, one shared-memory access of a warp a cycle, 64 bytes a cycle
/// from the second-level cache), not measurements.
///
/// # Panics
/// If `hidden` or `clips` is zero.
pub fn plan(cell: Cell, hidden: usize, clips: usize, processors: usize, shared_bytes: usize) -> Option<Plan> {
    assert!(hidden > 0 && clips > 0, "a recurrence needs a unit and a clip");
    (1..=hidden.min(processors))
        .filter_map(|peers| {
            let units = hidden.div_ceil(peers);
            candidate(cell, hidden, units, clips, processors, shared_bytes)
        })
        .min_by_key(|plan| cost(cell, hidden, clips, plan))
}

/// The plan with slices of `units`, if they fit.
fn candidate(
    cell: Cell,
    hidden: usize,
    units: usize,
    clips: usize,
    processors: usize,
    shared_bytes: usize,
) -> Option<Plan> {
    let peers = hidden.div_ceil(units);
    let groups = clips.min(processors / peers);
    let (fixed, each) = floats(cell, hidden, units);
    let fitting = (shared_bytes / 4).checked_sub(fixed)? / each;
    if fitting == 0 || groups == 0 {
        return None;
    }
    let most = clips.div_ceil(groups);
    let rows = most.div_ceil(most.div_ceil(fitting));
    Some(Plan { groups, peers, units, rows, shared_bytes: 4 * (fixed + rows * each), threads: THREADS })
}

/// 4-byte words of shared memory, in the order of `Block` in group.cu: for the weights, and for each clip.
fn floats(cell: Cell, hidden: usize, units: usize) -> (usize, usize) {
    let gates = cell.gates();
    let (pad, k) = (units.next_multiple_of(TILE), hidden.next_multiple_of(32));
    let clip = copies(cell) * k + pad * (gates + (gates + 2) + 2 + gates) + 3;
    (gates * pad * k, clip)
}

/// Vectors of H that one product reads, at most.
fn copies(cell: Cell) -> usize {
    match cell {
        Cell::Rnn => 1,
        Cell::Gru => 2,
        Cell::Lstm => 4,
    }
}

/// Estimated cycles of a step of all lots.
fn cost(cell: Cell, hidden: usize, clips: usize, plan: &Plan) -> usize {
    let barriers = if cell == Cell::Gru { 2 } else { 1 };
    let (pad, k) = (plan.units.next_multiple_of(TILE), hidden.next_multiple_of(32));
    // Tiles of four, two or one row read as many vectors of the left factor, and TILE of the right.
    let rows = plan.rows;
    let tiles = rows / 4 + (rows / 2 % 2) + rows % 2;
    let product = cell.gates() * (pad / TILE) * (TILE * tiles + rows) * (k / 32);
    let exchange = rows * cell.gates() * k / 16;
    plan.lots(clips) * (barriers * (1500 + 20 * plan.peers) + product + exchange)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: [Cell; 3] = [Cell::Rnn, Cell::Gru, Cell::Lstm];
    /// Multiprocessors, and bytes of shared memory a block: A100, H100 and H200, a small card.
    const DEVICES: [(usize, usize); 3] = [(108, 163 << 10), (132, 227 << 10), (20, 99 << 10)];

    #[test]
    fn every_unit_and_clip_has_a_place_and_all_blocks_run_at_once() {
        for cell in CELLS {
            for hidden in [1, 2, 3, 7, 16, 33, 64, 100, 256, 257, 512] {
                for clips in [1, 2, 5, 16, 100, 1000] {
                    for (processors, bytes) in DEVICES {
                        let Some(plan) = plan(cell, hidden, clips, processors, bytes) else {
                            assert!(hidden == 512 && processors == 20, "{cell:?} {hidden} {processors}");
                            continue;
                        };
                        let case = format!("{plan:?} of {cell:?}, {hidden} units, {clips} clips");
                        assert!(plan.shared_bytes <= bytes, "{case}");
                        assert!(plan.groups * plan.peers <= processors, "{case}");
                        assert!(plan.groups <= clips, "{case}");
                        assert!(plan.peers * plan.units >= hidden, "{case}");
                        assert!((plan.peers - 1) * plan.units < hidden, "a block without units: {case}");
                        assert!(plan.groups * plan.rows * plan.lots(clips) >= clips, "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_paper_s_network_on_an_h200() {
        let plan = plan(Cell::Gru, 256, 16, 132, 227 << 10).unwrap();
        assert_eq!((plan.groups, plan.peers, plan.units, plan.rows), (8, 16, 16, 2));
        assert!(plan.shared_bytes > 48 << 10 && plan.shared_bytes < 64 << 10, "{}", plan.shared_bytes);
    }

    #[test]
    fn weights_that_do_not_fit_have_no_plan() {
        assert!(plan(Cell::Lstm, 1024, 16, 132, 227 << 10).is_some());
        assert_eq!(plan(Cell::Lstm, 4096, 16, 132, 227 << 10), None);
        assert_eq!(plan(Cell::Gru, 64, 1, 132, 1 << 10), None);
    }

    #[test]
    fn launches_are_cooperative() {
        let plan = plan(Cell::Lstm, 64, 3, 132, 227 << 10).unwrap();
        for (pass, name) in [(Pass::Forward, "recurrence_forward"), (Pass::Backward, "recurrence_backward")] {
            let launch = plan.launch(pass);
            assert!(launch.cooperative && launch.kernel == name);
            assert_eq!(launch.grid, [plan.groups * plan.peers, 1, 1]);
        }
    }
}
