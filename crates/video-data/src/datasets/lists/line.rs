//! A line of a list, whatever its form.

use std::path::PathBuf;

use crate::datasets::parts::Part;

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// As the list writes it, below the folder of the clips or further down.
    pub(super) clip: PathBuf,
    pub(super) labels: Vec<String>,
    pub(super) group: String,
    pub(super) part: Option<Part>,
}
