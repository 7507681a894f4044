//! The CUDA kernels of the recurrence, run by the emulation on the CPU, against the f64 reference.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says what it skips")]

use candle_core::{Device, Tensor};
use rand::RngExt;
use tt_core::cuda::emulation::{Argument, available, emulate};
use tt_core::cuda::{Launch, Source, Stall};
use tt_rnn::recurrence::cuda::{Card, Pass, Plan, Record, plan, sorted, source};
use tt_rnn::recurrence::reference::Reference;
use tt_rnn::recurrence::{Batch, Cell, GateActivation, Masks};

const CELLS: [Cell; 3] = [Cell::Rnn, Cell::Gru, Cell::Lstm];
const GATES: [GateActivation; 2] = [GateActivation::HardSigmoid, GateActivation::Sigmoid];
const DROPOUTS: [Dropout; 3] = [Dropout::None, Dropout::Shared, Dropout::PerGate];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dropout {
    None,
    Shared,
    PerGate,
}

/// H200: multiprocessors, shared memory and clusters.
const CARD: Card = Card { processors: 132, shared_bytes: 227 << 10, clusters: 16 };

/// A random problem; the kernels see f32, the reference the same values in f64.
#[derive(Clone, Debug)]
struct Problem {
    cell: Cell,
    gate: GateActivation,
    hidden: usize,
    lengths: Vec<usize>,
    dropout: Dropout,
    mask: Vec<f32>,
    x: Vec<f32>,
    weights: Vec<f32>,
    dlast: Vec<f32>,
}

#[derive(Debug, PartialEq)]
struct Solution {
    last: Vec<f32>,
    activations: Vec<f32>,
    hidden: Vec<f32>,
    extra: Vec<f32>,
    dx: Vec<f32>,
}

impl Problem {
    fn new(cell: Cell, gate: GateActivation, hidden: usize, lengths: &[usize], dropout: Dropout) -> Self {
        let mut rng = tt_core::rng::stream(hidden as u64, "test/recurrence-cuda");
        let (row, clips) = (cell.gates() * hidden, lengths.len());
        let mut draw =
            |n: usize, size: f32| -> Vec<f32> { (0..n).map(|_| rng.random_range(-size..size)).collect() };
        let x = draw(lengths.iter().sum::<usize>() * row, 1.5);
        let weights = draw((hidden + 1) * row, 1.5 / (hidden as f32).sqrt());
        let dlast = draw(clips * hidden, 1.0);
        let factors = match dropout {
            Dropout::None => 0,
            Dropout::Shared => clips * hidden,
            Dropout::PerGate => clips * row,
        };
        let mask = draw(factors, 1.0).iter().map(|v| if *v < -0.5 { 0.0 } else { 4.0 / 3.0 }).collect();
        Self { cell, gate, hidden, lengths: lengths.to_vec(), dropout, mask, x, weights, dlast }
    }

    fn masks(&self) -> Masks<'_> {
        match self.dropout {
            Dropout::None => Masks::None,
            Dropout::Shared => Masks::Shared(&self.mask),
            Dropout::PerGate => Masks::PerGate(&self.mask),
        }
    }

    fn mask_count(&self) -> usize {
        self.mask.len() / (self.lengths.len() * self.hidden)
    }

    /// Groups, blocks of each, and clips of each at once.
    fn deal(&self, sizes: [usize; 3], cluster: bool) -> Plan {
        Plan::new(self.cell, self.hidden, sizes, cluster)
    }

    fn on(&self, card: &Card) -> Plan {
        plan(self.cell, self.hidden, self.lengths.len(), card).unwrap()
    }

    fn source(&self, plan: &Plan) -> Source {
        source(self.cell, self.hidden, self.gate, self.mask_count(), plan)
    }

    /// The first argument of both kernels.
    fn clips(&self) -> Argument<'static> {
        Argument::Int(self.lengths.len() as i32)
    }

    fn run(&self, plan: &Plan, pass: Pass, mut arguments: Vec<Argument<'_>>) {
        emulate(&self.source(plan), &plan.launch(pass), &mut arguments)
            .unwrap_or_else(|error| panic!("{error}: {plan:?} of {self:?}"));
    }

    fn forward(&self, plan: &Plan, train: bool) -> Solution {
        let (frames, clips) = (self.lengths.iter().sum::<usize>(), self.lengths.len());
        let kept = if train { frames } else { 0 };
        let extra = if self.cell == Cell::Rnn { 0 } else { kept };
        let unknown = |rows: usize| vec![f32::NAN; rows * self.hidden];
        let mut solution = Solution {
            last: unknown(clips),
            activations: unknown(kept * self.cell.gates()),
            hidden: unknown(kept),
            extra: unknown(extra),
            dx: unknown(kept * self.cell.gates()),
        };
        let (mut x, mut u, mut mask) = (self.x.clone(), self.weights.clone(), self.mask.clone());
        let (mut order, mut exchange) =
            (sorted(&self.lengths), vec![0; 2 * plan.exchange(self.cell, self.hidden)]);
        let mut report = [0, 0];
        let mut arguments = vec![self.clips()];
        arguments.extend([Argument::F32(&mut x), Argument::F32(&mut u), Argument::F32(&mut mask)]);
        arguments.extend([Argument::U32(&mut order), Argument::F32(&mut solution.last)]);
        arguments.extend([Argument::F32(&mut solution.activations), Argument::F32(&mut solution.hidden)]);
        arguments.extend([Argument::F32(&mut solution.extra), Argument::U32(&mut exchange)]);
        arguments.push(Argument::U32(&mut report));
        self.run(plan, Pass::Forward, arguments);
        assert_eq!(report, [0, 0]);
        let same = |a: &[f32], b: &[f32]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
        assert!(same(&x, &self.x) && same(&u, &self.weights), "the inputs were written to");
        solution
    }

    fn solve(&self, plan: &Plan) -> Solution {
        let evaluated = self.forward(plan, false);
        let mut solution = self.forward(plan, true);
        assert_eq!(evaluated.last, solution.last);
        let (mut u, mut mask, mut dlast) = (self.weights.clone(), self.mask.clone(), self.dlast.clone());
        let (mut order, mut exchange) =
            (sorted(&self.lengths), vec![0; 2 * plan.exchange(self.cell, self.hidden)]);
        let mut report = [0, 0];
        let mut arguments = vec![self.clips()];
        arguments.extend([Argument::F32(&mut u), Argument::F32(&mut mask), Argument::U32(&mut order)]);
        arguments.extend([Argument::F32(&mut solution.activations), Argument::F32(&mut solution.hidden)]);
        arguments.extend([Argument::F32(&mut solution.extra), Argument::F32(&mut dlast)]);
        arguments.extend([Argument::F32(&mut solution.dx), Argument::U32(&mut exchange)]);
        arguments.push(Argument::U32(&mut report));
        self.run(plan, Pass::Backward, arguments);
        assert_eq!(report, [0, 0]);
        solution
    }

    /// As the caller on a device gets it, by candle's operators.
    fn weight_gradient(&self, plan: Plan, solution: &Solution) -> Vec<f32> {
        let (hidden, clips) = (self.hidden, self.lengths.len());
        let tensor = |values: &[f32], width: usize| {
            Tensor::from_slice(values, (values.len() / width, width), &Device::Cpu).unwrap()
        };
        let mask =
            |gates: usize| Tensor::from_slice(&self.mask, (gates, clips, hidden), &Device::Cpu).unwrap();
        let record = Record {
            activations: tensor(&solution.activations, self.cell.gates() * hidden),
            hidden: tensor(&solution.hidden, hidden),
            extra: (self.cell != Cell::Rnn).then(|| tensor(&solution.extra, hidden)),
            mask: (self.dropout != Dropout::None).then(|| mask(self.mask_count())),
            lengths: self.lengths.clone(),
            sorted: Tensor::from_vec(sorted(&self.lengths), (clips, 3), &Device::Cpu).unwrap(),
            plan,
        };
        let dx = tensor(&solution.dx, self.cell.gates() * hidden);
        record.weight_gradient(self.cell, &dx).unwrap().to_vec1().unwrap()
    }

    /// Runs a plan in emulation and compares it with the reference.
    fn check(&self, plan: Plan) -> Solution {
        let ours = self.solve(&plan);
        self.compare(&plan, [&ours.last, &ours.dx, &self.weight_gradient(plan, &ours)]);
        ours
    }

    /// Compares last states and both gradients with the reference. Rounding enters once a multiply-add and passes
    /// through the steps; a saturated tanh loses some digits of its slope, hence the factor 8.
    fn compare(&self, plan: &Plan, ours: [&[f32]; 3]) {
        let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let (x, w, dlast) = (wide(&self.x), wide(&self.weights), wide(&self.dlast));
        let batch = Batch { masks: self.masks(), ..Batch::new(&self.lengths) };
        let reference = Reference { cell: self.cell, gate_activation: self.gate, hidden: self.hidden };
        let no_warm = vec![0.0; self.cell.gates() * self.hidden];
        let last = reference.forward(&x, &batch, &w, &no_warm);
        let gradients = reference.backward(&x, &batch, &w, &no_warm, &dlast);
        let steps = self.lengths.iter().sum::<usize>();
        let tolerance = f64::from(f32::EPSILON) * 8.0 * ((self.hidden + steps) as f64).sqrt().max(8.0);
        let expected = [("last", &last), ("dx", &gradients.x), ("dweights", &gradients.weights)];
        for (ours, (what, reference)) in ours.into_iter().zip(expected) {
            let largest = reference.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
            assert_eq!(ours.len(), reference.len());
            for (i, (a, b)) in ours.iter().zip(reference).enumerate() {
                let error = (f64::from(*a) - b).abs();
                assert!(
                    error <= tolerance * largest,
                    "{what}[{i}]: {a} not {b} (error {error:e}) by {plan:?} of {self:?}"
                );
            }
        }
    }
}

fn skipped() -> bool {
    let skip = !available();
    if skip {
        println!("skipped: no C++ compiler for the emulation of CUDA kernels");
    }
    skip
}

#[test]
fn all_combinations_agree_with_the_reference() {
    if skipped() {
        return;
    }
    for (i, cell) in CELLS.into_iter().enumerate() {
        for (j, gate) in GATES.into_iter().enumerate() {
            for (k, dropout) in DROPOUTS.into_iter().enumerate() {
                // Two groups of three blocks, which take a second lot.
                let problem = Problem::new(cell, gate, 11, &[3, 7, 1, 4, 4, 2, 5], dropout);
                let clusters = problem.check(problem.deal([2, 3, 2], true));
                // Half of the combinations run without clusters too, with the same bits.
                if (i + j + k) % 2 == 0 {
                    assert_eq!(problem.check(problem.deal([2, 3, 2], false)), clusters, "{problem:?}");
                }
            }
        }
    }
}

#[test]
fn nan_passes_through_every_gate() {
    if skipped() {
        return;
    }
    for cell in CELLS {
        for gate in GATES {
            for block in 0..cell.gates() {
                let mut problem = Problem::new(cell, gate, 5, &[2, 3], Dropout::None);
                problem.x[block * 5..(block + 1) * 5].fill(f32::NAN);
                let last = problem.forward(&problem.deal([1, 1, 2], false), false).last;
                let what = format!("{cell:?} {gate:?} block {block}: {last:?}");
                assert!(last[..5].iter().all(|v| v.is_nan()), "{what}");
                assert!(last[5..].iter().all(|v| v.is_finite()), "{what}");
            }
        }
    }
}

#[test]
fn sizes_around_the_block_edges() {
    if skipped() {
        return;
    }
    for (i, cell) in CELLS.into_iter().enumerate() {
        for (j, hidden) in [1, 3, 7, 16, 33, 64].into_iter().enumerate() {
            let (gate, dropout) = (GATES[(i + j) % 2], DROPOUTS[(i + j) % 3]);
            let peers = [1, 3, 7, 6, 5, 8][j];
            let (lengths, sizes, cluster) = match (i + j) % 3 {
                0 => (&[9][..], [1, peers, 1], true),
                1 => (&[1, 2, 1, 6, 3][..], [1, peers, 5], false),
                _ => (&[1, 2, 1, 6, 3][..], [2, peers, 3], true),
            };
            let problem = Problem::new(cell, gate, hidden, lengths, dropout);
            problem.check(problem.deal(sizes, cluster));
        }
    }
}

#[test]
fn bits_do_not_depend_on_how_the_work_is_dealt() {
    if skipped() {
        return;
    }
    for cell in CELLS {
        let problem =
            Problem::new(cell, GateActivation::Sigmoid, 40, &[2, 5, 1, 3, 3, 1, 4], Dropout::PerGate);
        let one = problem.check(problem.deal([1, 1, 7], false));
        for (sizes, cluster) in [([3, 10, 1], false), ([1, 4, 3], false), ([4, 5, 2], true)] {
            assert_eq!(problem.check(problem.deal(sizes, cluster)), one, "{cell:?} in {sizes:?}");
        }
    }
}

#[test]
fn the_paper_s_network_as_an_h200_runs_it() {
    if skipped() {
        return;
    }
    let problem = Problem::new(Cell::Gru, GateActivation::HardSigmoid, 256, &[3, 2], Dropout::Shared);
    let (clusters, apart) = (problem.on(&CARD), problem.on(&Card { clusters: 0, ..CARD }));
    assert!(clusters.cluster && clusters.peers == 8 && !apart.cluster && apart.peers >= 8);
    assert_eq!(problem.check(clusters), problem.check(apart));
    // Half of the units a block, as where there are fewer clips than multiprocessors can take.
    assert_eq!(problem.check(problem.deal([2, 16, 1], false)), problem.check(apart));
}

/// More clips than all groups take at once: each takes a second lot.
#[test]
fn more_clips_than_fit_at_once() {
    if skipped() {
        return;
    }
    let lengths: Vec<usize> = (0..240).map(|clip| 1 + usize::from(clip % 100 == 7)).collect();
    let problem = Problem::new(Cell::Gru, GateActivation::HardSigmoid, 256, &lengths, Dropout::Shared);
    let plan = problem.on(&Card { shared_bytes: 40 << 10, ..CARD });
    assert!(plan.lots(240) > 1 && plan.groups > 1 && plan.cluster, "{plan:?}");
    problem.check(plan);
}

/// Blocks that do not run at the same time wait for each other in vain: both passes give up and say where.
#[test]
fn a_wait_without_an_end_is_reported() {
    if skipped() {
        return;
    }
    let problem = Problem::new(Cell::Lstm, GateActivation::Sigmoid, 11, &[6], Dropout::None);
    let plan = problem.deal([1, 3, 1], false);
    let mut solution = problem.solve(&plan);
    let (mut x, mut u, mut dlast) = (problem.x.clone(), problem.weights.clone(), problem.dlast.clone());
    let mut last = vec![0.0; 11];
    for (pass, step) in [(Pass::Forward, 1), (Pass::Backward, 5)] {
        let launch = Launch { cooperative: false, ..plan.launch(pass) };
        let (mut order, mut exchange, mut report) =
            (sorted(&[6]), vec![0; 2 * plan.exchange(Cell::Lstm, 11)], [0, 0]);
        let mut arguments = vec![problem.clips()];
        match pass {
            Pass::Forward => {
                arguments.extend([Argument::F32(&mut x), Argument::F32(&mut u)]);
                arguments.extend([Argument::Null, Argument::U32(&mut order), Argument::F32(&mut last)]);
                arguments.extend([Argument::Null, Argument::Null, Argument::Null]);
            }
            Pass::Backward => {
                arguments.extend([Argument::F32(&mut u), Argument::Null, Argument::U32(&mut order)]);
                arguments.extend([&mut solution.activations, &mut solution.hidden].map(|v| Argument::F32(v)));
                arguments.extend([&mut solution.extra, &mut dlast].map(|v| Argument::F32(v)));
                arguments.push(Argument::F32(&mut solution.dx));
            }
        }
        arguments.extend([Argument::U32(&mut exchange), Argument::U32(&mut report)]);
        let error = emulate(&problem.source(&plan), &launch, &mut arguments).unwrap_err().to_string();
        assert!(error.contains("the kernel gave up"), "{pass:?}: {error}");
        let stall = Stall::from_word(u64::from(report[1]) << 32 | u64::from(report[0]));
        assert_eq!(stall, Some(Stall { block: 0, step }), "{pass:?}");
    }
}

/// NVRTC compiles for a GPU what the emulation runs, where `TT_NVRTC` is the path of `libnvrtc.so`.
#[cfg(unix)]
#[test]
fn every_kernel_compiles_for_gpus() {
    let Some(library) = std::env::var_os("TT_NVRTC") else {
        println!("skipped: the recurrence is not compiled for GPUs (TT_NVRTC names no libnvrtc.so)");
        return;
    };
    let nvrtc = tt_core::cuda::nvrtc::Nvrtc::open(library.as_ref()).unwrap();
    let hard = GateActivation::HardSigmoid;
    let a100 = Card { processors: 108, shared_bytes: 163 << 10, clusters: 0 };
    for cell in CELLS {
        for (architecture, card) in [("sm_80", a100), ("sm_90", CARD)] {
            for (hidden, clips, masks) in [(256, 16, 1), (100, 3, 2), (256, 64, 0)] {
                let plan = plan(cell, hidden, clips, &card).unwrap();
                assert_eq!(plan.cluster, card.clusters > 0);
                let source = source(cell, hidden, hard, masks, &plan);
                let (binary, log) = nvrtc.compile(&source, architecture).unwrap();
                assert!(binary.starts_with(b"\x7fELF"));
                // A spill would be a warning.
                assert_eq!(log, "", "{plan:?} of {cell:?} for {architecture}");
            }
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn a_gpu_agrees_with_the_reference() {
    let Ok(device) = Device::new_cuda(0) else {
        println!("skipped: the recurrence is not run on a GPU (there is none)");
        return;
    };
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let many: Vec<usize> = (0..16).map(|clip| 1 + clip * 7 % 11).collect();
    for cell in CELLS {
        for (i, (hidden, lengths)) in
            [(1, &[3, 1][..]), (33, &[9, 2, 4]), (256, &many)].into_iter().enumerate()
        {
            for dropout in DROPOUTS {
                let problem = Problem::new(cell, GATES[i % 2], hidden, lengths, dropout);
                let tensor = |values: &[f32]| Tensor::new(values, &device).unwrap();
                let (x, weights, dlast) =
                    (tensor(&problem.x), tensor(&problem.weights), tensor(&problem.dlast));
                let kernels =
                    tt_rnn::recurrence::cuda::Persistent { cell, gate_activation: problem.gate, hidden };
                let forward = |train| {
                    let found = kernels.forward(&x, &weights, lengths, problem.masks(), train);
                    found.unwrap().unwrap()
                };
                let solve = || {
                    let (last, record) = forward(true);
                    let record = record.unwrap();
                    let dx = kernels.backward(&record, &weights, &dlast).unwrap();
                    let dweights = record.weight_gradient(cell, &dx).unwrap();
                    (record.plan, [values(&last), values(&dx), values(&dweights)])
                };
                let (plan, ours) = solve();
                problem.compare(&plan, [&ours[0], &ours[1], &ours[2]]);
                let (_, again) = solve();
                assert_eq!(ours[..2], again[..2], "{problem:?}");
                assert_eq!(ours[0], values(&forward(false).0), "{problem:?}");
            }
        }
    }
}
