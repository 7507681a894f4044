//! Runs the models of the paper on its datasets, cell by cell, and holds the record schema.
//!
//! Without feature `engine` only the schema is built (specification, records): that is what `xtask` links.

pub mod record;
pub mod spec;
