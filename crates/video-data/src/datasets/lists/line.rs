//! A line of a list, whatever its form.

use std::path::PathBuf;

use crate::datasets::parts::Part;

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Path as the list writes it, relative to the clips' folder or to one below it.
    pub(super) clip: PathBuf,
    pub(super) labels: Vec<String>,
    pub(super) group: String,
    pub(super) part: Option<Part>,
}
