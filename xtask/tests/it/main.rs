//! xtask as a user meets it: errors before anything is built, a whole run with a fake engine, committed
//! records redrawn byte-identical, kills survived, and the laws of the tree.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where by panicking")]

mod browser;
mod cluster;
mod committed;
mod edges;
mod errors;
mod export;
mod fake;
mod interrupt;
mod packages;
mod predict;
mod results;
mod rooms;
mod run;
mod setup;
mod stress;
mod tidy;
mod tune;
