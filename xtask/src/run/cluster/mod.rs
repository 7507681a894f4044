//! Cells computed elsewhere: planned in a file that every host reads, and handed to Slurm.
//!
//! The truth is in the run's folder. A cell is done when its `cell.json` is there, whoever computed it; Slurm is asked
//! only for what waits.

pub(crate) mod plan;
pub(crate) mod slurm;
