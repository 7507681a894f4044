//! Updates from gradients that are computed as the optimiser reads them. The allocator notes the largest piece of memory
//! that anybody asks for, so this program has one test.
#![expect(unsafe_code, reason = "an allocator that looks at sizes")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use rand::RngExt;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::models::{
    CnnKernels, CnnSize, FormatSettings, Mode, ModelConfig, PackedFrames, RecurrentForm, Stack, find,
};
use tt_rnn::parameters::Optimizer;
use tt_rnn::projection::GateLayout;
use tt_rnn::rates::{RateRule, Rates};
use tt_rnn::recurrence::GateActivation;

/// The system's allocator, and the most that it was asked for at once.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system's own.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller has it.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

const FEATURES: usize = 3_000;
/// More rows than the kernel multiplies at once.
const LENGTHS: [usize; 3] = [90, 200, 10];

fn config(stack: Stack, dropout: f32) -> ModelConfig {
    ModelConfig {
        features: FEATURES,
        width: 20,
        classes: 3,
        input_modes: vec![50, 60],
        output_modes: vec![4, 5],
        rank: 2,
        gates: GateLayout::Concatenated,
        core_init: CoreInit::Glorot1d,
        backend: Backend::Fused,
        precision: Precision::F32,
        dense_hidden: 110,
        stack,
        recurrent: RecurrentForm::Dense,
        gate_activation: GateActivation::Sigmoid,
        affine: Affine { scale: 1.0 / 127.5, shift: -1.0 },
        mlp_frames: 3,
        mlp_input_modes: vec![60, 60],
        mlp_rank: 2,
        recurrent_dropout: 0.25,
        dense_masks_per_gate: true,
        dense_input_dropout: dropout,
        tt_input_dropout: 0.0,
        warm_up_to: 0,
        classifier_l2: 0.1,
        formats: FormatSettings::default(),
        cnn: CnnSize::Small,
        cnn_kernels: CnnKernels::Dense,
        attention_penalty: 0.0,
    }
}

/// The bits of weights and moments after some steps, and the most memory that a step asked for at once.
fn trained(name: &str, config: &ModelConfig, clip_norm: Option<f64>, stopped: bool) -> (Vec<u32>, usize) {
    let model = find(name).unwrap().build(config, &Device::Cpu, 7).unwrap();
    let mut draws = stream(1, "tests/updates");
    let rows: usize = LENGTHS.iter().sum();
    let pixels: Vec<u8> = (0..rows * FEATURES).map(|_| draws.random()).collect();
    let rows = Tensor::from_vec(pixels, (rows, FEATURES), &Device::Cpu).unwrap();
    let frames = PackedFrames::new(rows, LENGTHS.to_vec());
    let labels = Tensor::new(&[0_u32, 1, 2], &Device::Cpu).unwrap();
    let adam = AdamConfig { clip_norm, weight_decay: 0.1, ..AdamConfig::default() };
    let rates = Rates { lr: 1e-2, rule: RateRule::FanIn, input_factor: 1.0 };
    let new = || Optimizer::new(adam, rates, model.parameters()).unwrap();
    let mut optimizer = new();
    LARGEST.store(0, Ordering::Relaxed);
    for step in 0..3 {
        let logits = model.logits(&frames, Mode::Train(&mut stream(step, "masks"))).unwrap();
        let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
        optimizer.step(&loss.backward().unwrap()).unwrap();
        if stopped && step == 1 {
            let (steps, moments) = (optimizer.steps(), optimizer.moments().unwrap());
            optimizer = new();
            optimizer.restore(steps, &moments).unwrap();
        }
    }
    let largest = LARGEST.load(Ordering::Relaxed);
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let weights = optimizer.parameters().iter().map(|parameter| flat(&parameter.var));
    let moments = optimizer.moments().unwrap().into_iter().flatten().map(|moment| flat(&moment));
    (weights.chain(moments).flatten().map(f32::to_bits).collect(), largest)
}

#[test]
fn no_gradient_of_an_input_matrix_is_written_and_bits_are_as_if_it_were() {
    let stacks = [Stack::default(), Stack { layers: 2, bidirectional: true, ..Stack::default() }];
    for (name, gates) in [("gru", 3), ("lstm", 4)] {
        let matrix = FEATURES * gates * 110 * size_of::<f32>();
        // Without dropout some processors compute the gradient by digits.
        for (stack, dropout) in [(stacks[0], 0.0), (stacks[0], 0.25), (stacks[1], 0.0)] {
            let config = config(stack, dropout);
            let on = |threads: usize, clip_norm: Option<f64>, stopped: bool| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| trained(name, &config, clip_norm, stopped))
            };
            // The norm needs all gradients before the first update; a bound that is never reached scales by one.
            let (expected, largest) = on(1, Some(1e30), false);
            assert!(largest >= matrix, "{largest} of {matrix} bytes");
            for threads in [1, 2, 8] {
                let (bits, largest) = on(threads, None, false);
                assert!(bits == expected, "{name} {stack:?}: other bits on {threads} threads");
                assert!(largest < matrix, "{name} {stack:?}: {largest} of {matrix} bytes at once");
            }
            assert!(on(2, None, true).0 == expected, "{name} {stack:?}: other bits after a stop");
        }
    }
}
