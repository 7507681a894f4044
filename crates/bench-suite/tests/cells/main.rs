//! Cells as processes: the same bytes at any number of threads, after any stop, beside another run, and after a
//! write that failed. The clips are noise in a frame store made here, so no video is decoded.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod augment;
mod compress;
mod determinism;
mod devices;
mod faults;
mod features;
mod final_model;
mod inner;
mod locks;
mod modes;
mod people;
mod resume;
mod rows;
mod run;
mod sound;
