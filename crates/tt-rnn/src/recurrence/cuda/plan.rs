//! How a recurrence is dealt to the processors of a device; plain numbers, no device needed.

use super::super::Cell;
use tt_core::cuda::Launch;

/// Threads of a block.
const THREADS: usize = 256;

/// Blocks of a cluster, at most: more need a card's consent.
pub(super) const CLUSTER: usize = 8;

/// Weights that a thread keeps in registers, at most: half of what it can have.
const WEIGHTS: usize = 128;

/// Steps of which a block holds what it reads of global memory, as in group.cu.
const AHEAD: usize = 4;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Last states, and in training the record.
    Forward,
    /// The gradient of the pre-activations from the record.
    Backward,
}

/// What a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// Multiprocessors.
    pub processors: usize,
    /// Shared memory that a block can have.
    pub shared_bytes: usize,
    /// Clusters of eight blocks that run at the same time; 0 before compute capability 9.0.
    pub clusters: usize,
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
    /// Whether a group is a cluster, whose blocks reach each other's shared memory.
    pub cluster: bool,
}

impl Plan {
    /// Groups of `peers` blocks, of `rows` clips each at once.
    ///
    /// # Panics
    /// If there is no unit for a block.
    pub fn new(cell: Cell, hidden: usize, [groups, peers, rows]: [usize; 3], cluster: bool) -> Self {
        let units = hidden.div_ceil(peers);
        assert!((peers - 1) * units < hidden, "{peers} blocks for {hidden} units");
        let (fixed, each) = floats(cell, hidden, units, cluster);
        let shared_bytes = 4 * (fixed + rows * each);
        Self { groups, peers, units, rows, shared_bytes, threads: THREADS, cluster }
    }

    /// The launch of one pass.
    pub fn launch(&self, pass: Pass) -> Launch {
        let kernel = match pass {
            Pass::Forward => "recurrence_forward",
            Pass::Backward => "recurrence_backward",
        };
        let launch = Launch::new(kernel, self.groups * self.peers, self.threads, self.shared_bytes);
        if self.cluster { launch.in_clusters(self.peers) } else { launch.cooperative() }
    }

    /// Words of 8 bytes of global memory through which blocks exchange numbers, zero before every launch.
    pub fn exchange(&self, cell: Cell, hidden: usize) -> usize {
        if self.cluster { 0 } else { self.groups * 2 * copies(cell) * self.rows * hidden }
    }

    /// Lots that the fullest group takes one after another.
    pub fn lots(&self, clips: usize) -> usize {
        clips.div_ceil(self.groups).div_ceil(self.rows)
    }
}

/// The quickest way to run `clips` clips on a card; `None` if the weights do not fit into the registers of all
/// multiprocessors.
///
/// Few blocks in a group wait little for each other, many have little to multiply; those of a cluster wait least. The
/// costs weighed here are estimates (cycles of an exchange and of each block in it, four vectors of multiply-adds and one
/// shared-memory access of a warp a cycle), not measurements.
///
/// # Panics
/// If `hidden` or `clips` is zero.
pub fn plan(cell: Cell, hidden: usize, clips: usize, card: &Card) -> Option<Plan> {
    assert!(hidden > 0 && clips > 0, "a recurrence needs a unit and a clip");
    let apart = (1..=hidden.min(card.processors)).map(|peers| (peers, false));
    let in_clusters = (1..=CLUSTER.min(hidden)).map(|peers| (peers, true));
    apart
        .chain(in_clusters)
        .filter_map(|(peers, cluster)| candidate(cell, hidden, hidden.div_ceil(peers), clips, card, cluster))
        .min_by_key(|plan| cost(cell, hidden, clips, plan))
}

/// The plan with slices of `units`, if they fit.
fn candidate(
    cell: Cell,
    hidden: usize,
    units: usize,
    clips: usize,
    card: &Card,
    cluster: bool,
) -> Option<Plan> {
    let peers = hidden.div_ceil(units);
    let groups = clips.min(if cluster { card.clusters } else { card.processors / peers });
    if groups == 0 || weights(cell, hidden, units).is_none_or(|weights| weights > WEIGHTS) {
        return None;
    }
    let (fixed, each) = floats(cell, hidden, units, cluster);
    let fitting = (card.shared_bytes / 4).checked_sub(fixed)? / each;
    if fitting == 0 {
        return None;
    }
    let most = clips.div_ceil(groups);
    let rows = most.div_ceil(most.div_ceil(fitting));
    Some(Plan::new(cell, hidden, [groups, peers, rows], cluster))
}

/// Weights that a thread keeps, as `Product` in group.cu deals them; none where a warp would have more than 32 units.
fn weights(cell: Cell, hidden: usize, units: usize) -> Option<usize> {
    let products: &[usize] = match cell {
        Cell::Rnn => &[1],
        Cell::Gru => &[2, 1],
        Cell::Lstm => &[4],
    };
    let wide = |gates: &usize| {
        let wide = units.div_ceil(THREADS / 32 / gates).next_power_of_two();
        (wide <= 32).then_some(wide * hidden.div_ceil(32))
    };
    products.iter().map(wide).sum()
}

/// 4-byte words of shared memory of a block, as `Exchange` and `Block` lay them out: once, and for each clip.
fn floats(cell: Cell, hidden: usize, units: usize, cluster: bool) -> (usize, usize) {
    let (gates, k) = (cell.gates(), hidden.next_multiple_of(32));
    let (arrivals, turns) = if cluster { (4, 2) } else { (0, 1) };
    let clip = turns * copies(cell) * k + units * (gates + AHEAD * (gates + 1) + 2 + gates) + 3;
    (arrivals + gates * units, clip)
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
    let exchanges = if cell == Cell::Gru { 2 } else { 1 };
    let (rows, k) = (plan.rows, hidden.next_multiple_of(32));
    let wait = if plan.cluster { 700 + 10 * plan.peers } else { 1500 + 20 * plan.peers };
    let product = rows * (k / 32) * (cell.gates() * plan.units / 4 + THREADS / 32);
    let exchange = rows * copies(cell) * k / 8;
    plan.lots(clips) * (exchanges * wait + product + exchange)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: [Cell; 3] = [Cell::Rnn, Cell::Gru, Cell::Lstm];
    const A100: Card = Card { processors: 108, shared_bytes: 163 << 10, clusters: 0 };
    const H200: Card = Card { processors: 132, shared_bytes: 227 << 10, clusters: 16 };
    const SMALL: Card = Card { processors: 20, shared_bytes: 99 << 10, clusters: 0 };

    #[test]
    fn every_unit_and_clip_has_a_place_and_all_blocks_run_at_once() {
        for cell in CELLS {
            for hidden in [1, 2, 3, 7, 16, 33, 64, 100, 256, 257, 512] {
                for clips in [1, 2, 5, 16, 100, 1000] {
                    for card in [A100, H200, SMALL] {
                        let Some(plan) = plan(cell, hidden, clips, &card) else {
                            assert!(hidden == 512 && card == SMALL, "{cell:?} {hidden} {card:?}");
                            continue;
                        };
                        let case = format!("{plan:?} of {cell:?}, {hidden} units, {clips} clips");
                        assert!(plan.shared_bytes <= card.shared_bytes, "{case}");
                        assert!(plan.groups * plan.peers <= card.processors, "{case}");
                        assert!(!plan.cluster || plan.groups <= card.clusters && plan.peers <= 8, "{case}");
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
    fn the_paper_s_network() {
        let plan = |card| plan(Cell::Gru, 256, 16, &card).unwrap();
        let clusters = plan(H200);
        assert!(clusters.cluster);
        assert_eq!((clusters.groups, clusters.peers, clusters.units, clusters.rows), (16, 8, 32, 1));
        assert!(clusters.shared_bytes < 16 << 10, "{}", clusters.shared_bytes);
        let apart = plan(Card { clusters: 0, ..H200 });
        assert!(!apart.cluster);
        assert_eq!((apart.groups, apart.peers, apart.units, apart.rows), (16, 8, 32, 1));
    }

    #[test]
    fn weights_that_do_not_fit_have_no_plan() {
        assert!(plan(Cell::Lstm, 1024, 16, &H200).is_some());
        assert_eq!(plan(Cell::Lstm, 2048, 16, &H200), None);
        assert_eq!(plan(Cell::Gru, 64, 1, &Card { shared_bytes: 512, ..H200 }), None);
    }

    #[test]
    fn blocks_that_wait_for_each_other_run_at_once() {
        let apart = plan(Cell::Lstm, 64, 3, &A100).unwrap();
        let clusters = plan(Cell::Lstm, 64, 3, &H200).unwrap();
        let (launch, peers) = (clusters.launch(Pass::Forward), clusters.peers);
        assert!(clusters.cluster && !launch.cooperative && launch.cluster == peers && peers > 1);
        for (pass, name) in [(Pass::Forward, "recurrence_forward"), (Pass::Backward, "recurrence_backward")] {
            let launch = apart.launch(pass);
            assert!(launch.cooperative && launch.cluster == 1 && launch.kernel == name);
            assert_eq!(launch.grid, [apart.groups * apart.peers, 1, 1]);
        }
    }
}
