//! A network whose cores stay as they are, for one row at a time on the thread that asks.

use super::run::{Contracted, Prepared, Running};
use crate::Result;
use crate::apply::{Rows, check};

/// A network with its cores.
#[derive(Debug)]
pub struct FixedNetwork {
    network: Contracted,
    prepared: Prepared,
    running: Running,
}

impl Contracted {
    /// The network with cores that stay as they are.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if the cores do not fit.
    pub fn fixed(self, cores: &[f32]) -> Result<FixedNetwork> {
        check("cores", cores.len(), self.params)?;
        let mut prepared = Prepared::default();
        self.prepare(cores, false, &mut prepared);
        let running = Running { whole: self.sliced.saturating_sub(1), ..Running::default() };
        Ok(FixedNetwork { network: self, prepared, running })
    }
}

impl FixedNetwork {
    /// As [`Contracted::forward`] of one row. Memory is taken by the first call, and not again.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if a buffer does not fit.
    pub fn forward(&mut self, row: Rows, out: &mut [f32]) -> Result<()> {
        let Self { network, prepared, running } = self;
        check("a row", row.len(), network.inputs)?;
        check("output", out.len(), network.outputs)?;
        row.count(network.inputs)?;
        network.through(row.row(0, network.inputs), network.steps.len(), prepared, running);
        network.gather(running, out);
        Ok(())
    }
}
