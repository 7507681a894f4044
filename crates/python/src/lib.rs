//! The compiled part of the Python package `ttrnn`: model folders, and the TT layer on the CPU's kernel.
//!
//! What people call is Python, in `python/ttrnn/`: it checks arrays and types; this takes contiguous buffers.

mod buffers;
mod layer;
mod model;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pyo3::create_exception!(
    ttrnn,
    ModelError,
    PyValueError,
    "A folder that is not whole, or frames that do not fit."
);

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ModelError", module.py().get_type::<ModelError>())?;
    module.add_class::<model::Trained>()?;
    module.add_class::<model::Stream>()?;
    module.add_class::<layer::Layer>()?;
    module.add_class::<layer::Kept>()
}
