//! Runs the models of the paper on its datasets, cell by cell, and holds the record schema.
//!
//! Without feature `engine` only the schema is built (specification, records, the deck's numbers,
//! statistics): that is what `xtask` links.

pub mod deck;
pub mod record;
pub mod spec;
pub mod stats;
