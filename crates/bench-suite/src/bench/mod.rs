//! Benchmarks of our own kernels, and our side of the comparison with peers.

mod case;
mod decomposition;
mod frames;
mod gpu;
mod kernels;
mod layer;
mod study;
mod worker;

pub use decomposition::{DecompositionOptions, decomposition};
pub use frames::{FrameOptions, frames};
pub use gpu::{GpuOptions, gpu};
pub use kernels::{KernelOptions, kernels};
pub use layer::{LayerOptions, layer};
pub use study::{StudyOptions, study};
pub use worker::worker;
