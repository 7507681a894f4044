//! For those who work on the project: tests, measurements, stress. Nothing else uses them.

pub(crate) mod bench;
mod check;
mod decode;
mod inference;
mod measured;
mod outside;
mod peers;
pub(crate) mod stress;
pub(crate) mod suite;
