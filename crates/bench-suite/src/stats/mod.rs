//! Statistics of the tables: mean ± std over folds, bootstrap intervals, paired differences.
//!
//! A fold's score is the mean over its seeds; `mean` and `std` are taken over folds. `std` is the sample standard
//! deviation (n − 1): the paper prints "mean ± std" without saying which, and n − 1 is the larger and the unbiased
//! one. The population value is `std · sqrt((n − 1) / n)` (0.894 of it for five folds).
//!
//! How a fold is scored is in `outcomes`, what an interval is drawn from in `bootstrap`.

mod bootstrap;
#[cfg(test)]
mod coverage;
mod holm;
mod moments;
mod outcomes;
mod settling;
mod student;

pub use bootstrap::{Difference, Draws, Fold, Interval, REPLICATES, drawn_groups, interval, paired};
pub use holm::holm;
pub use moments::{mean, population_std, sample_std};
pub use outcomes::{Outcomes, average_precision};
pub use settling::has_settled;
pub use student::of_few;
