//! Memory that a stream takes: counted by the allocator, so this program has one test and no other threads of its own.
#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod small;

use small::{Kind, MODELS, beyond_the_paper, clip, exported};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tt_rnn::projection::GateLayout;
use tt_rnn::recurrence::GateActivation;

/// The system's allocator, and how often it was asked by any thread.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller has it.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often memory was asked for by frames after the first, of two clips.
fn asked(dir: &Path, frame: &[u8]) -> usize {
    let mut stream = tt_rnn::load(dir).unwrap().stream().unwrap();
    stream.push(frame).unwrap();
    let before = ASKED.load(Ordering::Relaxed);
    for _ in 0..2 {
        // A queue of rayon's asks once in 63 times.
        for _ in 0..100 {
            stream.push(frame).unwrap();
        }
        stream.restart();
    }
    ASKED.load(Ordering::Relaxed) - before
}

#[test]
fn a_stream_takes_no_memory_after_its_first_frame() {
    // The pool's threads take memory as they start, which may be later than what started them.
    rayon::broadcast(|_| ());
    for model in MODELS.into_iter().filter(|model| *model != "tt-mlp") {
        for (gates, gate_activation, multi_label) in [
            (GateLayout::Concatenated, GateActivation::HardSigmoid, false),
            (GateLayout::Separate, GateActivation::Sigmoid, true),
        ] {
            let kind = Kind { gates, gate_activation, multi_label, warm_up_to: 0, ..Kind::of(model) };
            let (_, dir) = exported(&kind);
            assert_eq!(asked(dir.path(), &clip(1, 3)), 0, "{model} {gates:?}");
        }
    }
    for (ending, kind) in beyond_the_paper().into_iter().filter(|(_, kind)| kind.has_stream()) {
        let (_, dir) = exported(&kind);
        assert_eq!(asked(dir.path(), &clip(1, 3)), 0, "{}{ending}", kind.model);
    }
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/models/ucf11-sample-tt-gru");
    assert_eq!(asked(&committed, &vec![90; 160 * 120 * 3]), 0, "a TT-GRU of the paper's size");
}
