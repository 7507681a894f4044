//! What the TOMLs of the studies say.

pub(crate) mod ablation;
pub(crate) mod rates;
pub(crate) mod tune;
