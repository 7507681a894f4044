//! Rows of bytes times a full matrix, by digits: what a dense layer runs on where a unit multiplies bytes. In f32 dense
//! layers have kernels of their own.
//!
//! Sums of a span of products are exact; each span is combined in f32 and added to the one before.

use super::fused::centred;
use super::{Affine, Path, Rows};
use crate::Result;
use crate::digits::{Bytes, Digits, Product, Ready, Scratch, TakeRows, Unit};
use crate::simd::Isa;
use std::ops::Range;

/// Features of a span forwards: of a matrix of 768 columns they are 0.8 MB, and their digits 0.6 MB, which stay in the second
/// cache of the processors that have such units (1 to 2 MB).
const FEATURES: usize = 256;
/// Rows of a span backwards: the digits of 16 columns, 48 bytes a row, stay in the first cache (32 to 48 KB).
const ROWS: usize = 512;

/// Rows from which on a unit takes less time than f32 (`docs/performance.md`), in [`ByteProducts::multiply`] and
/// [`ByteProducts::outer`]: VNNI on Zen 4, tile registers on a Sapphire Rapids core.
fn pays_from(unit: Unit) -> [usize; 2] {
    match unit {
        Unit::Vnni | Unit::Emulated => [256, 64],
        Unit::Amx => [32, 32],
    }
}

/// Products of bytes with matrices of f32 on one unit.
#[derive(Debug, Clone, Copy)]
pub struct ByteProducts {
    unit: Ready,
    named: bool,
    isa: Isa,
    /// The byte that counts as zero, and the map of bytes that count from it.
    centre: u8,
    affine: Affine,
}

/// A matrix `[K, N]` in digits, a span of rows each.
#[derive(Debug, Default)]
pub struct Cut(Vec<Digits>);

/// Scratch of a worker.
#[derive(Debug, Default)]
pub struct Panels {
    bytes: Bytes,
    digits: Digits,
    places: Vec<usize>,
    scratch: Scratch,
}

impl ByteProducts {
    /// Products with bytes through `affine`, on the unit of this path; none where it has none.
    ///
    /// # Errors
    /// As [`Path::check`].
    pub fn new(path: Path, affine: Affine) -> Result<Option<Self>> {
        let Some((unit, named)) = path.unit()? else { return Ok(None) };
        let (centre, affine) = centred(affine);
        Ok(Some(Self { unit, named, isa: Isa::best(), centre, affine }))
    }

    /// Whether [`ByteProducts::multiply`] pays for so many rows: it cuts the whole matrix into digits for them.
    pub fn multiply_pays(&self, rows: usize) -> bool {
        self.named || rows >= pays_from(self.unit.unit())[0]
    }

    /// Whether [`ByteProducts::outer`] pays for so many rows.
    pub fn outer_pays(&self, rows: usize) -> bool {
        self.named || rows >= pays_from(self.unit.unit())[1]
    }

    /// The unit, and from how many rows on it is used where nobody named it: for records.
    pub fn name(&self) -> String {
        let unit = self.unit.unit();
        if self.named {
            return unit.name().to_owned();
        }
        let [multiply, outer] = pays_from(unit);
        format!("{} from {multiply} rows forward, from {outer} backward", unit.name())
    }

    /// `out [n, N] = (scale · x + shift) · w` over some features of rows `x [n, M]` and of `w [M, N]`. Whether that can be:
    /// rows of bytes, and weights with digits, all of them finite and far below the largest numbers.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn multiply(
        &self,
        (x, width): (Rows<'_>, usize),
        features: Range<usize>,
        w: &[f32],
        out: &mut [f32],
        panels: &mut Panels,
    ) -> bool {
        let Some(x) = x.bytes(width) else { return false };
        let columns = w.len() / width;
        let mut unit = self.unit.start();
        let Panels { bytes, digits, places, scratch } = panels;
        places.clear();
        places.extend((0..x.count()).map(|row| row * columns));
        for from in features.clone().step_by(FEATURES) {
            let span = from..features.end.min(from + FEATURES);
            if !self.take(&w[span.start * columns..span.end * columns], columns, digits) {
                return false;
            }
            bytes.take_rows(x.count(), span.len(), (0..x.count()).map(|row| &x.row(row)[span.clone()]));
            let (unit, add) = (&mut *unit, from > features.start);
            self.isa.run(Product { unit, bytes, digits, places, to: out, add, ahead: &[], scratch });
        }
        true
    }

    /// Cuts `[K, N]`, the right factor of [`ByteProducts::outer`], into digits. Whether it can.
    pub fn cut(&self, right: &[f32], columns: usize, cut: &mut Cut) -> bool {
        let spans = right.chunks(ROWS * columns);
        cut.0.resize_with(spans.len(), Digits::default);
        spans.zip(&mut cut.0).all(|(span, digits)| self.take(span, columns, digits))
    }

    /// `out [features, N] = (scale · x + shift)^T · right`, of rows of bytes `x [K, M]`.
    ///
    /// # Panics
    /// If the buffers do not fit each other, or rows are no bytes.
    pub fn outer(
        &self,
        (x, width): (Rows<'_>, usize),
        features: Range<usize>,
        right: &Cut,
        out: &mut [f32],
        panels: &mut Panels,
    ) {
        let Some(x) = x.bytes(width) else { panic!("products by digits are of bytes") };
        let columns = out.len() / features.len();
        let mut unit = self.unit.start();
        let Panels { bytes, places, scratch, .. } = panels;
        places.clear();
        places.extend((0..features.len()).map(|feature| feature * columns));
        for (at, digits) in right.0.iter().enumerate() {
            let first = at * ROWS;
            let count = ROWS.min(x.count() - first);
            let rows = (first..first + count).map(|row| &x.row(row)[features.clone()]);
            bytes.take_columns(count, features.len(), rows);
            let unit = &mut *unit;
            self.isa.run(Product { unit, bytes, digits, places, to: out, add: at > 0, ahead: &[], scratch });
        }
    }

    fn take(&self, rows: &[f32], columns: usize, digits: &mut Digits) -> bool {
        self.isa.run(TakeRows { digits, rows, columns, centre: self.centre });
        digits.scale(self.affine.scale, self.affine.shift)
    }
}
