//! One file a verb: what the user asked for.

pub(crate) mod ablation;
pub(crate) mod cancel;
pub(crate) mod cell_task;
pub(crate) mod collect;
pub(crate) mod compare;
pub(crate) mod compress;
pub(crate) mod data;
pub(crate) mod export;
pub(crate) mod figures;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod rates;
pub(crate) mod reproduce;
pub(crate) mod results;
pub(crate) mod serve;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod tune;
