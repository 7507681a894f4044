//! What can be wrong with a specification, and the nearest valid name.

/// What is wrong with a specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// Text that is not TOML, or a value of the wrong type.
    #[error("{path}: {message}")]
    Parse {
        /// The file or flag.
        path: String,
        /// What the parser says.
        message: String,
    },
    /// An unknown key.
    #[error("unknown key {key:?} in {path}; the nearest valid key is {nearest:?}")]
    UnknownKey {
        /// The file or flag.
        path: String,
        /// The key as written, with its table.
        key: String,
        /// The valid key nearest to it.
        nearest: String,
    },
    /// A name that is not a valid choice.
    #[error("unknown {what} {name:?}; did you mean {nearest:?}? valid: {choices}")]
    UnknownName {
        /// What was being chosen.
        what: &'static str,
        /// The name given.
        name: String,
        /// The valid name nearest to it.
        nearest: String,
        /// All valid names.
        choices: String,
    },
    /// A value that no run can use.
    #[error("{key} = {value}: {reason}")]
    Value {
        /// The key with its table.
        key: &'static str,
        /// The value.
        value: String,
        /// Why not, and what would be right.
        reason: String,
    },
    /// Keys of `[model]` of which one model cannot be built, or not on this machine.
    #[error("{model} cannot be built of [model] ({keys}): {reason}")]
    Model {
        /// The model's name.
        model: String,
        /// Keys that decide its shape, and what computes it.
        keys: &'static str,
        /// What the model says.
        reason: String,
    },
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, SpecError>;

/// Passes if `name` is one of `choices`; otherwise names the nearest.
///
/// # Errors
/// [`SpecError::UnknownName`].
pub fn nearest_or<S: AsRef<str>>(what: &'static str, name: &str, choices: &[S]) -> Result<()> {
    if choices.iter().any(|choice| choice.as_ref() == name) {
        return Ok(());
    }
    let names: Vec<&str> = choices.iter().map(AsRef::as_ref).collect();
    let nearest = nearest(name, names.iter().copied());
    Err(SpecError::UnknownName { what, name: name.to_owned(), nearest, choices: names.join(", ") })
}

pub(super) fn nearest<'a>(name: &str, choices: impl Iterator<Item = &'a str>) -> String {
    choices.min_by_key(|choice| strsim::damerau_levenshtein(name, choice)).unwrap_or_default().to_owned()
}
