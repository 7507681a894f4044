//! Memory that a training step takes: counted by the allocator, so this program has one test and no other threads of its own.
#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use tt_core::rng::stream;
use tt_rnn::encoder;
use tt_rnn::models::{CnnSize, Mode, ModelConfig, PackedFrames, Readout, Stack, find};

/// The system's allocator, what it has given out, and the most that that ever was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As many frames as 16 clips of UCF11 have.
const LENGTHS: [usize; 16] = [484; 16];

/// Bytes that a training step on square frames takes beyond what there was before it.
fn taken(model: &str, side: usize, lengths: &[usize]) -> usize {
    let features = 3 * side * side;
    let config =
        ModelConfig { features, width: side, dense_hidden: 4, ..ModelConfig::new(&[features], &[4], 1, 3) };
    taken_by(model, &config, lengths)
}

fn taken_by(model: &str, config: &ModelConfig, lengths: &[usize]) -> usize {
    let features = config.features;
    let model = find(model).unwrap().build(config, &Device::Cpu, 1).unwrap();
    let n: usize = lengths.iter().sum();
    let rows = Tensor::from_vec(vec![90_u8; n * features], (n, features), &Device::Cpu).unwrap();
    let frames = PackedFrames::new(rows, lengths.to_vec());
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let logits = model.logits(&frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
    drop(logits.sqr().unwrap().sum_all().unwrap().backward().unwrap());
    MOST.load(Ordering::Relaxed) - before
}

#[test]
fn a_long_batch_takes_no_more_than_the_plan_says_and_features() {
    const SIDE: usize = 32;
    rayon::broadcast(|_| ());
    let plan = encoder::Plan::new(CnnSize::Small, SIDE, SIDE).unwrap();
    let n: usize = LENGTHS.iter().sum();
    // Of every frame: features and their gradient, pre-activations of 3 · 4 units, masks and states; twice, as gradients are
    // summed by copies.
    let of_frames = 2 * 4 * n * (2 * plan.features() + 4 * 12);
    // The gradient by parameter beside the whole, and weights joined.
    let of_weights = 4 * 4 * plan.weights();
    let bound = plan.held_bytes(rayon::current_num_threads()) + of_frames + of_weights;
    let found = taken("cnn-gru", SIDE, &LENGTHS);
    assert!(found < bound, "{found} of {bound} bytes");
    // A frame leaves more than 60 kB behind: all of them together would be far beyond.
    assert!(4 * bound < n * 60_000, "{bound}");
    // And what a frame more takes is what its features take.
    let more = found - taken("cnn-gru", SIDE, &LENGTHS[..8]);
    assert!(more < of_frames, "{more} of {of_frames}");
    with_attention();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(of_layers_and_directions);
}

/// As many frames more take as much memory more, wherever they are added, however many layers read them in either direction.
fn of_layers_and_directions() {
    let stack = Stack { layers: 3, bidirectional: true, readout: Readout::Mean };
    for model in ["tt-gru", "tr-lstm", "gru"] {
        let config = ModelConfig { stack, ..ModelConfig::new(&[8, 12], &[4, 4], 2, 3) };
        let taken = |frames: usize| taken_by(model, &config, &[frames; 4]) as f64;
        // The first one warms up what is used again.
        let [_, short, long, longer] = [400, 400, 800, 1_200].map(taken);
        let (first, second) = (long - short, longer - long);
        assert!(first > 0.0 && (second / first - 1.0).abs() < 0.05, "{model}: {first} then {second}");
    }
}

/// Frames of 40 × 40 pixels, maps of 2 × 2 places: the map of every frame is kept, and nothing else of its size but the map's
/// gradient and what it is made of.
fn with_attention() {
    const SIDE: usize = 40;
    let plan = encoder::Plan::new(CnnSize::Small, SIDE, SIDE).unwrap();
    assert_eq!(plan.places(), 4);
    let taken = |clips: usize| taken("attention-lstm", SIDE, &LENGTHS[..clips]);
    let n = 4 * LENGTHS[0];
    // Glimpses, features of means and their gradients; 6 · 4 numbers of a step, their gradients and those beside.
    let of_frames = 4 * n * (3 * plan.places() * plan.features() + 6 * plan.features() + 8 * 4 * 12);
    let more = taken(8) - taken(4);
    assert!(more < of_frames, "{more} of {of_frames}");
    // An activation of the first block alone has as many numbers as the maps of four frames.
    assert!(of_frames < n * 40 * 40 * 16, "{of_frames}");
}
