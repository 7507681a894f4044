//! The one error type of this crate.

/// What can go wrong with a Tensor Train or another tensor network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shape that no train or network can have; the text names the offending list.
    #[error("invalid shape: {0}")]
    Shape(String),
    /// A buffer or tensor whose size does not fit the shape.
    #[error("{what}: expected {expected}, found {found}")]
    Size {
        /// Which buffer or tensor.
        what: &'static str,
        /// The size that the shape asks for.
        expected: String,
        /// The size that was given.
        found: String,
    },
    /// A name that is not in the list of choices.
    #[error("unknown {what} {name:?}: choose one of {choices}")]
    Unknown {
        /// What was being chosen.
        what: &'static str,
        /// The name given.
        name: String,
        /// The valid names.
        choices: &'static str,
    },
    /// A number that no decomposition can work with.
    #[error("{what}[{index}] is {value}: a decomposition needs finite numbers")]
    NotFinite {
        /// Which buffer.
        what: &'static str,
        /// Where in it.
        index: usize,
        /// The number.
        value: f64,
    },
    /// A relative error that cannot be asked for.
    #[error("relative error {0}: it must be a finite number above 0")]
    Accuracy(f64),
    /// A number that its type cannot hold.
    #[error("{0} is too large for its number type")]
    Overflow(&'static str),
    /// An iteration that did not converge.
    #[error("{what} did not converge: {detail}")]
    NoConvergence {
        /// Which iteration.
        what: &'static str,
        /// On what, or what to do.
        detail: String,
    },
    /// Something that this machine does not have.
    #[error("not available on this machine: {0}")]
    Unavailable(String),
    /// candle's own error, kept as the source.
    #[cfg(feature = "candle")]
    #[error("tensor operation failed")]
    Candle(#[from] candle_core::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The product of sizes.
///
/// # Errors
/// [`Error::Size`] if it is beyond what a machine can count.
pub(crate) fn count(what: &'static str, sizes: &[usize]) -> Result<usize> {
    sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size)).ok_or_else(|| Error::Size {
        what,
        expected: format!("at most {} numbers", usize::MAX),
        found: format!("sizes {sizes:?}"),
    })
}
