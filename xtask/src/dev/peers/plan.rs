//! Which peers meet in which session, and what each is compared with.

use crate::cli::bench::Cell;

/// Clips in a batch.
pub(super) const BATCH: usize = 16;
/// Hidden units.
pub(super) const HIDDEN: usize = 256;
/// Modes and ranks of the UCF11 layer; the gate factor goes on the first output mode.
pub(super) const INPUT_MODES: [usize; 4] = [8, 20, 20, 18];
pub(super) const OUTPUT_MODES: [usize; 4] = [4, 4, 4, 4];
pub(super) const RANKS: [usize; 5] = [1, 4, 4, 4, 1];
/// Formats beside the train that some peer has, with the rank of each.
pub(super) const FORMATS: [(&str, usize); 3] = [("tr-split", 5), ("bt", 4), ("cp-split", 35)];
/// Blocks of a block-term layer.
pub(super) const BLOCKS: usize = 2;
/// T up to which the slow peers and the dense layers take part.
const LONG: usize = 16;

impl Cell {
    /// Its name in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gru => "gru",
            Self::Lstm => "lstm",
        }
    }

    /// Gates that share the train.
    pub(super) fn gates(self) -> usize {
        match self {
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    /// Our model of a format beside the train.
    fn of_format(self, format: &str) -> &'static str {
        match (self, format) {
            (Self::Gru, "tr-split") => "tr-split-gru",
            (Self::Gru, "bt") => "bt-gru",
            (Self::Gru, _) => "cp-split-gru",
            (Self::Lstm, "tr-split") => "tr-split-lstm",
            (Self::Lstm, "bt") => "bt-lstm",
            (Self::Lstm, _) => "cp-split-lstm",
        }
    }

    /// Our TT model with this cell.
    pub(super) fn tt(self) -> &'static str {
        match self {
            Self::Gru => "tt-gru",
            Self::Lstm => "tt-lstm",
        }
    }
}

/// What runs a peer: one of our programs, or one Python environment per group whose pins clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Home {
    Engine,
    Torch,
    Jax,
    Tensorflow,
}

/// Which function a peer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// The TT model of the case.
    Tt,
    /// The same with a matrix of another format, one of [`FORMATS`].
    Format(&'static str),
    /// Its dense twin.
    Dense,
    /// torch.nn.GRU: reset after U.
    ResetAfter,
    /// None: peak arithmetic.
    Floor,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) home: Home,
    pub(super) function: Function,
    /// Whether its products have factors of fewer digits: it does less than ours, and is labelled.
    pub(super) reduced: bool,
    /// The only cell it can do, if not both.
    cell: Option<Cell>,
    when: When,
}

/// When a peer takes part without being asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Not with the LSTM.
    Gru,
    /// Not with the LSTM, at one thread only.
    GruOneThread,
    /// As `GruOneThread`, and only up to [`LONG`] frames.
    GruOneThreadShort,
    /// Up to [`LONG`] frames.
    Short,
}

const fn peer(name: &'static str, home: Home, function: Function, cell: Option<Cell>, when: When) -> Peer {
    Peer { name, home, function, reduced: false, cell, when }
}

/// The same with products of lower precision.
const fn reduced(peer: Peer) -> Peer {
    Peer { reduced: true, ..peer }
}

/// Every peer, in the order of the table.
pub(super) const PEERS: [Peer; 21] = [
    peer("t3f", Home::Tensorflow, Function::Tt, None, When::Always),
    peer("tensorly_torch", Home::Torch, Function::Tt, None, When::Gru),
    peer("torchtt", Home::Torch, Function::Tt, None, When::Gru),
    peer("torch_merged", Home::Torch, Function::Tt, None, When::Always),
    peer("torch_right_to_left", Home::Torch, Function::Tt, None, When::GruOneThread),
    peer("torch_per_step", Home::Torch, Function::Tt, None, When::GruOneThread),
    peer("torch_compile", Home::Torch, Function::Tt, None, When::Gru),
    reduced(peer("torch_compile_bf16", Home::Torch, Function::Tt, None, When::Gru)),
    reduced(peer("torch_medium", Home::Torch, Function::Tt, None, When::Gru)),
    peer("opt_einsum", Home::Torch, Function::Tt, None, When::Gru),
    peer("jax_merged", Home::Jax, Function::Tt, None, When::Always),
    peer("tednet", Home::Torch, Function::Tt, None, When::GruOneThreadShort),
    peer("tednet_tr", Home::Torch, Function::Format("tr-split"), None, When::GruOneThreadShort),
    peer("tednet_bt", Home::Torch, Function::Format("bt"), None, When::GruOneThreadShort),
    peer("tednet_cp", Home::Torch, Function::Format("cp-split"), None, When::GruOneThreadShort),
    peer("tntorch", Home::Torch, Function::Tt, None, When::GruOneThreadShort),
    peer("t3nsor", Home::Torch, Function::Tt, None, When::GruOneThreadShort),
    peer("candle_ops", Home::Engine, Function::Tt, Some(Cell::Gru), When::Always),
    peer("torch_dense_gru", Home::Torch, Function::ResetAfter, Some(Cell::Gru), When::Short),
    peer("torch_dense_lstm", Home::Torch, Function::Dense, Some(Cell::Lstm), When::Short),
    peer("floor", Home::Engine, Function::Floor, None, When::Always),
];

impl Peer {
    fn takes_part(&self, asked: &[String], cell: Cell, frames: usize, threads: usize) -> bool {
        if self.cell.is_some_and(|only| only != cell) {
            return false;
        }
        if !asked.is_empty() {
            return asked.iter().any(|name| name == self.name);
        }
        let (gru, one, short) = (cell == Cell::Gru, threads == 1, frames <= LONG);
        match self.when {
            When::Always => true,
            When::Gru => gru,
            When::GruOneThread => gru && one,
            When::GruOneThreadShort => gru && one && short,
            When::Short => short,
        }
    }

    /// Its format, where that is none of the train and the dense matrix.
    pub(super) fn format(&self) -> Option<&'static str> {
        if let Function::Format(format) = self.function { Some(format) } else { None }
    }

    /// Whether it has a dense matrix where the others have a train.
    pub(super) fn is_dense(&self) -> bool {
        matches!(self.function, Function::Dense | Function::ResetAfter)
    }
}

/// Everyone who is visited in one session.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) cell: Cell,
    pub(super) threads: usize,
    /// Ours: the TT model, its dense twin if a dense peer takes part, and the model of each other format that one has.
    pub(super) ours: Vec<Peer>,
    pub(super) peers: Vec<Peer>,
}

impl Round {
    /// The session of this cell, T and number of threads.
    pub(super) fn new(asked: &[String], cell: Cell, frames: usize, threads: usize) -> Self {
        let peers: Vec<_> =
            PEERS.into_iter().filter(|peer| peer.takes_part(asked, cell, frames, threads)).collect();
        let mut ours = vec![peer(cell.tt(), Home::Engine, Function::Tt, Some(cell), When::Always)];
        if peers.iter().any(Peer::is_dense) {
            ours.push(peer(cell.name(), Home::Engine, Function::Dense, Some(cell), When::Short));
        }
        for format in peers.iter().filter_map(Peer::format) {
            let (name, function) = (cell.of_format(format), Function::Format(format));
            ours.push(peer(name, Home::Engine, function, Some(cell), When::Always));
        }
        Self { cell, threads, ours, peers }
    }

    /// Whether the case needs a dense matrix.
    pub(super) fn has_dense(&self) -> bool {
        self.ours.iter().any(Peer::is_dense)
    }

    /// The formats beside train and dense matrix that the case needs.
    pub(super) fn formats(&self) -> impl Iterator<Item = &'static str> {
        self.ours.iter().filter_map(Peer::format)
    }
}

/// Floating-point operations of a pass over `frames` frames of each clip, by the cheapest order (last core
/// first) and with nothing recomputed.
///
/// # Cost
/// Forward: core k costs its size times the modes before it and the output modes after it. Backward: twice
/// that for every core but the last, which needs no gradient of its input; twice the recurrence.
pub(super) fn flop(cell: Cell, frames: usize, step: bool) -> f64 {
    let output = |k: usize| OUTPUT_MODES[k] * if k == 0 { cell.gates() } else { 1 };
    let core = |k: usize| {
        let before: usize = INPUT_MODES[..k].iter().product();
        let after: usize = (k + 1..INPUT_MODES.len()).map(output).product();
        before * after * INPUT_MODES[k] * RANKS[k + 1] * RANKS[k] * output(k)
    };
    let last = INPUT_MODES.len() - 1;
    let inner: usize = (0..last).map(core).sum();
    let recurrence = HIDDEN * HIDDEN * cell.gates();
    let forward = inner + core(last) + recurrence;
    let backward = 2 * inner + core(last) + 2 * recurrence;
    (2 * BATCH * frames * (forward + if step { backward } else { 0 })) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_the_floor() {
        // 1,929,216 and 2,936,832 multiply-accumulates of the layer, 256 x 768 of the recurrence.
        let per_frame = |step| flop(Cell::Gru, 4, step) / (2.0 * 16.0 * 4.0);
        assert_eq!(per_frame(false), 1_929_216.0 + 196_608.0);
        assert_eq!(per_frame(true), per_frame(false) + 2_936_832.0 + 2.0 * 196_608.0);
    }

    #[test]
    fn every_peer_can_be_asked_for_by_its_name() {
        assert_eq!(PEERS.map(|peer| peer.name), crate::cli::bench::PEERS);
    }

    #[test]
    fn long_clips_leave_the_slow_peers_out() {
        let names = |frames, threads| {
            let round = Round::new(&[], Cell::Gru, frames, threads);
            round.peers.iter().map(|peer| peer.name).collect::<Vec<_>>()
        };
        assert_eq!(names(16, 1).len(), 20);
        assert!(
            !names(64, 1).iter().any(|name| name.starts_with("tednet"))
                && !names(64, 1).contains(&"torch_dense_gru")
        );
        assert!(!names(16, 2).contains(&"torch_per_step"));
        assert!(!Round::new(&[], Cell::Gru, 64, 1).has_dense());
        let asked = Round::new(&["tednet".to_owned()], Cell::Gru, 64, 1);
        assert_eq!(asked.peers.len(), 1);
        let ring = Round::new(&["tednet_tr".to_owned()], Cell::Lstm, 16, 1);
        let ours: Vec<_> = ring.ours.iter().map(|peer| peer.name).collect();
        assert_eq!((ours, ring.has_dense()), (vec!["tt-lstm", "tr-split-lstm"], false));
    }
}
