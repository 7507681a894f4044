//! From bytes to pre-activations.

use super::Export;
use super::builder::Setting;
use super::schema::FLOAT;
use crate::Result;

impl Export<'_> {
    /// Bytes as the numbers that the model was trained on.
    pub(super) fn pixels(&mut self, frames: &str) -> String {
        let (scale, shift) = (self.config.frames.scale, self.config.frames.shift);
        let x = self.graph.op("Cast", &[frames], &[("to", Setting::Int(i64::from(FLOAT)))]);
        let scale = self.graph.floats("frames.scale", &[], &[scale]);
        let shift = self.graph.floats("frames.shift", &[], &[shift]);
        let x = self.graph.op("Mul", &[&x, &scale], &[]);
        self.graph.op("Add", &[&x, &shift], &[])
    }

    /// Pre-activations without bias, behind the leading axes, which stay as they are: `[…, M]` to `[…, G·H]`.
    pub(super) fn project(&mut self, pixels: &str, leading: usize) -> Result<String> {
        let features = self.config.input_features();
        let Some((_, trains)) = self.config.train()? else {
            let kernel = self.matrix("input.kernel")?;
            let rows = self.graph.reshape(pixels, &shape(leading, &[features]));
            return Ok(self.graph.op("MatMul", &[&rows, &kernel], &[]));
        };
        if trains == 1 {
            return self.train(pixels, leading, "input");
        }
        let parts: Vec<String> = (0..trains)
            .map(|gate| self.train(pixels, leading, &format!("input.gate.{gate}")))
            .collect::<Result<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.graph.op("Concat", &parts, &[("axis", Setting::Int(-1))]))
    }

    /// One train, last core first: `[…, M]` to `[…, N]`. With J outputs so far, the running tensor is
    /// `[…, m_1 … m_{k-1}, m_k·r_k, J]`, and the product with `W_k` `[r_{k-1}·n_k, m_k·r_k]` leaves `r_{k-1}` where the
    /// next reshape wants it.
    fn train(&mut self, pixels: &str, leading: usize, prefix: &str) -> Result<String> {
        let Some((train, _)) = self.config.train()? else { return Ok(pixels.to_owned()) };
        let mut before: usize = train.in_features();
        let mut outputs = 1;
        let mut x = pixels.to_owned();
        for k in (0..train.order()).rev() {
            let (rows, columns) = train.core_matrix(k);
            before /= train.input_modes()[k];
            let name = format!("{prefix}.core.{}", k + 1);
            let (_, core) = self.values(&name)?; // [m_k·r_k, r_{k-1}·n_k]
            x = if outputs == 1 {
                // The first product needs no transposed core: the rows are one matrix.
                let core = self.graph.weight(&name, &[rows, columns], &core, None);
                let x = self.graph.reshape(&x, &shape(leading, &[before, rows]));
                self.graph.op("MatMul", &[&x, &core], &[])
            } else {
                let across: Vec<f32> = (0..columns)
                    .flat_map(|column| (0..rows).map(move |row| (row, column)))
                    .map(|(row, column)| core[row * columns + column])
                    .collect();
                let core = self.graph.weight(&name, &[columns, rows], &across, None);
                let x = self.graph.reshape(&x, &shape(leading, &[before, rows, outputs]));
                self.graph.op("MatMul", &[&core, &x], &[])
            };
            outputs *= train.output_mode(k);
        }
        Ok(self.graph.reshape(&x, &shape(leading, &[train.out_features()])))
    }
}

/// A shape whose leading axes are those of the input: that is what 0 stands for.
fn shape(leading: usize, rest: &[usize]) -> Vec<i64> {
    std::iter::repeat_n(0, leading).chain(rest.iter().map(|extent| *extent as i64)).collect()
}
