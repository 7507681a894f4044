//! Benchmarks of our own kernels, and our side of the comparison with peers.

mod case;
mod decomposition;
mod gpu;
mod kernels;
mod worker;

pub use decomposition::{DecompositionOptions, decomposition};
pub use gpu::{GpuOptions, gpu};
pub use kernels::{KernelOptions, kernels};
pub use worker::worker;
