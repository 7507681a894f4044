//! Pages and charts, from the records alone.

pub mod ablation;
pub mod charts;
pub mod compression;
pub mod devices;
pub mod findings;
pub mod inference;
pub mod page;
pub mod rates;
pub mod readme;
pub(crate) mod report;
pub mod summary;
pub mod tuning;
