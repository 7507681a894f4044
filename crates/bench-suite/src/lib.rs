//! Runs the models of the paper on its datasets, cell by cell, and holds the record schema.

pub mod deck;
pub mod record;
pub mod stats;
