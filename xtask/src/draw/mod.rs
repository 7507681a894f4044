//! Pages and charts, from the records alone.

pub(crate) mod ablation;
pub(crate) mod charts;
pub(crate) mod commands;
pub(crate) mod compression;
pub(crate) mod devices;
pub(crate) mod findings;
pub(crate) mod page;
pub(crate) mod rates;
pub(crate) mod readme;
pub(crate) mod report;
pub(crate) mod tuning;
