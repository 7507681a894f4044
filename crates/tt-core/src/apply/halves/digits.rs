//! How the kernels of `tt_digits.cu` are cut into blocks and warps, and where they are chosen.

use super::{Cut, Forward};
use crate::apply::Precision;
use crate::cuda::{Launch, Source, TT_DIGITS};
use crate::{Error, Result};

/// Fours of warps in a block, which start their products together: what 255 registers a thread allow.
const GROUPS: usize = 2;
/// Ranks of which a warp holds the sums in registers: 24 numbers of 32 bits each.
const TILES: usize = 5;
/// Pixels of a row at the least: as many bytes as the copy engine takes at once, so that only the last slice of all frames may
/// end in a piece that is not whole.
const ROW: usize = 16;
/// Tiles of 8 outputs of the left half of which a warp holds the sums beside them.
const COLUMNS: usize = 8;

/// The geometry of the forward pass by digits of one cut.
///
/// # Cost
/// A frame of UCF11 (three gates, rank 4) takes `2.5 * 12` products of `[64, 32]` by `[32, 192]` in bytes, each the time of 96
/// cycles of a multiprocessor: 12 ns on 132 of them at 1.83 GHz. The product with the left half takes 720 products of `[16, 16]` by `[16,
/// 8]` in f16, as in [`super::Geometry`]: 3 ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits {
    cut: Cut,
    tiles: usize,
    buffers: usize,
}

impl Digits {
    /// The environment variable that names the kernel of the forward pass: `f16`, or `digits`, which is an error on a card
    /// that has none or errs. Where nobody names one it is digits, if card, precision and sizes allow.
    pub const VARIABLE: &'static str = "TT_CUDA";

    /// The geometry if the forward pass is to be by digits on a card of this compute capability, from what the environment
    /// names.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if `digits` is named and the card has no such products, [`Error::Unknown`] if something else
    /// is.
    pub fn choose(
        cut: Cut,
        precision: Precision,
        capability: (i32, i32),
        shared_limit: usize,
        named: Option<&str>,
    ) -> Result<Option<Self>> {
        let here = capability == (9, 0);
        match named {
            None | Some("digits" | "") => {}
            Some("f16") => return Ok(None),
            Some(name) => {
                return Err(Error::Unknown {
                    what: "kernels in the environment variable TT_CUDA",
                    name: name.to_owned(),
                    choices: "f16, digits",
                });
            }
        }
        if named == Some("digits") && !here {
            let (major, minor) = capability;
            return Err(Error::Unavailable(format!(
                "{}=digits needs compute capability 9.0, and this card has {major}.{minor}",
                Self::VARIABLE
            )));
        }
        // At lower precision one number of f16 does for two, in fewer products than three digits.
        Ok(if here && precision == Precision::F32 { Self::new(cut, shared_limit) } else { None })
    }

    /// The geometry for blocks with `shared_limit` bytes of shared memory; `None` if the digits do not fit beside the
    /// pixels, or the sums of y not in registers, or rows are shorter than 16 pixels.
    pub fn new(cut: Cut, shared_limit: usize) -> Option<Self> {
        if cut.left_tiles().1 > COLUMNS || cut.right_inputs < ROW {
            return None;
        }
        let most = 1..=cut.rank.min(TILES);
        let tiles = most.rev().map(|tiles| cut.rank.div_ceil(cut.rank.div_ceil(tiles)));
        let mut geometries = tiles.flat_map(|tiles| [2, 1].map(|buffers| Self { cut, tiles, buffers }));
        geometries.find(|geometry| geometry.shared_bytes() <= shared_limit)
    }

    /// Bytes of the digits that a block holds: of 32 pixels by three digits of each column at a time.
    fn right_bytes(&self) -> usize {
        self.cut.right_inputs.div_ceil(32) * 32 * 3 * self.tiles * 16
    }

    /// Bytes of shared memory of `tt_digits`: the digits, three factors of each column, words that count what has arrived, and
    /// the pixels of slices of 16 rows.
    fn shared_bytes(&self) -> usize {
        let (warps, slice) = (GROUPS * 4, (16 * self.cut.right_inputs + 64).next_multiple_of(16));
        self.right_bytes()
            + self.tiles * 16 * 3 * 4
            + (warps * self.buffers + 2) * 8
            + warps * self.buffers * slice
    }

    /// The forward pass of `frames` frames on a device with this many multiprocessors, one block on each. Every four warps
    /// take four frames at a time.
    pub fn forward(&self, frames: usize, multiprocessors: usize) -> Forward {
        let Self { cut, tiles, buffers } = *self;
        let parts = cut.rank.div_ceil(tiles);
        let across = cut.right_outputs.div_ceil(16) * parts;
        let columns = across * tiles * 16;
        let blocks = frames.div_ceil(4 * GROUPS).min((multiprocessors / across).max(1));
        let mut launch = Launch::new("tt_digits", blocks, GROUPS * 128, self.shared_bytes());
        launch.grid[1] = across;
        let source = Source::new("tt_digits.cu", TT_DIGITS)
            .define("M_LEFT", cut.left_inputs)
            .define("M_RIGHT", cut.right_inputs)
            .define("N_LEFT", cut.left_outputs)
            .define("N_RIGHT", cut.right_outputs)
            .define("RANK", cut.rank)
            .define("TERMS", Precision::F32.terms())
            .define("TILES", tiles)
            .define("RIGHT_WORDS", self.right_bytes() / 4)
            .define("GROUPS", GROUPS)
            .define("BUFFERS", buffers);
        Forward {
            source,
            prepare: Launch::new("prepare", (columns + cut.left_columns()).div_ceil(8), 256, 0),
            halves: cut.left_words(Precision::F32) + across * self.right_bytes() / 4 + 3 * columns,
            launch,
            waits: true,
            parts,
            alignment: if cut.right_inputs.is_multiple_of(8) { 8 } else { 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TtShape;
    use crate::cuda::emulation::{Argument, available, emulate};
    use crate::digits::{Bytes, Digits as Panels, Product, Scratch, Unit};
    use crate::simd::Isa;

    const SHARED: usize = 227 << 10;

    fn paper(modes: &[usize], rank: usize) -> Cut {
        Cut::cheapest(&TtShape::uniform(modes, &[4; 4], rank, 3).unwrap())
    }

    #[test]
    fn ucf11_fills_a_multiprocessor() {
        let digits = Digits::new(paper(&[8, 20, 20, 18], 4), SHARED).unwrap();
        assert_eq!((digits.tiles, digits.buffers, digits.right_bytes()), (4, 2, 73_728));
        let Forward { launch, prepare, halves, parts, .. } = digits.forward(16_384, 132);
        assert_eq!((launch.grid, launch.block, launch.shared_bytes), ([132, 1, 1], [256, 1, 1], 167_824));
        assert_eq!((prepare.grid, halves, parts), ([32, 1, 1], 49_536, 1));
        // Rows of 720 bytes leave no room for four ranks and eight slices.
        let digits = Digits::new(paper(&[4, 20, 20, 36], 4), SHARED).unwrap();
        assert_eq!((digits.tiles, digits.buffers), (2, 1));
    }

    #[test]
    fn digits_are_chosen_where_they_are_there_and_fit() {
        let cut = paper(&[8, 20, 20, 18], 4);
        let choose = |cut, precision, capability, named| {
            Digits::choose(cut, precision, capability, SHARED, named).map(|digits| digits.is_some())
        };
        for (capability, named, chosen) in [
            ((9, 0), None, true),
            ((9, 0), Some(""), true),
            ((9, 0), Some("digits"), true),
            ((9, 0), Some("f16"), false),
            ((8, 0), None, false),
            ((8, 0), Some("f16"), false),
            // Products of four warps are of 9.0 alone.
            ((10, 0), None, false),
        ] {
            let found = choose(cut, Precision::F32, capability, named).unwrap();
            assert_eq!(found, chosen, "{capability:?} {named:?}");
        }
        assert!(!choose(cut, Precision::Tf32, (9, 0), None).unwrap());
        let text = choose(cut, Precision::F32, (8, 6), Some("digits")).unwrap_err().to_string();
        assert!(
            text.contains("TT_CUDA=digits needs compute capability 9.0, and this card has 8.6"),
            "{text}"
        );
        let text = choose(cut, Precision::F32, (9, 0), Some("tf32")).unwrap_err().to_string();
        assert!(text.contains("TT_CUDA") && text.contains("f16, digits"), "{text}");
        // More than 64 outputs on the left; digits of one rank larger than shared memory; rows of 15 pixels.
        let at = |modes: &[usize], outputs: &[usize], ranks: &[usize], gates| {
            Cut::at(&TtShape::new(modes, outputs, ranks, gates).unwrap(), ranks.len() - 2)
        };
        for cut in [
            at(&[16, 32], &[17, 16], &[1, 2, 1], 4),
            at(&[7_000], &[4], &[1, 1], 1),
            at(&[16, 15], &[4, 4], &[1, 2, 1], 4),
        ] {
            assert!(!choose(cut, Precision::F32, (9, 0), Some("digits")).unwrap(), "{cut:?}");
        }
    }

    /// T has the bits of the digits of a CPU, from the same numbers and the same bytes.
    #[test]
    fn digits_have_the_bits_of_a_cpu() {
        if !available() {
            eprintln!("skipped: no C++ compiler for the emulation of CUDA kernels");
            return;
        }
        let cut = paper(&[8, 20, 20, 18], 4);
        let (frames, columns) = (2, cut.right_columns());
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut x: Vec<u8> = (0..frames * cut.left_inputs * cut.right_inputs).map(|_| next() as u8).collect();
        // Columns of very different sizes.
        let mut right: Vec<f32> = (0..cut.right_inputs * columns)
            .map(|k| (next() as f32 - 8e6) * 10_f32.powi(k as i32 % columns as i32 % 9 - 10))
            .collect();
        let mut left = vec![1.0; cut.rank * cut.left_outputs * cut.left_inputs];
        let forward = Digits::new(cut, SHARED).unwrap().forward(frames, 1);
        let (mut halves, mut y) = (vec![0; forward.halves], vec![0.0; frames * cut.outputs()]);
        let mut t = vec![f32::NAN; frames * cut.between()];
        let arguments =
            &mut [Argument::F32(&mut right), Argument::F32(&mut left), Argument::U32(&mut halves)];
        emulate(&forward.source, &forward.prepare, arguments).unwrap();
        let arguments = &mut [
            Argument::U8(&mut x),
            Argument::U32(&mut halves),
            Argument::F32(&mut y),
            Argument::F32(&mut t),
            Argument::Int(frames as i32),
            Argument::U32(&mut [0; 2]),
        ];
        emulate(&forward.source, &forward.launch, arguments).unwrap();

        let rows = frames * cut.left_inputs;
        let (mut bytes, mut panels) = (Bytes::default(), Panels::default());
        bytes.take_rows(rows, cut.right_inputs, x.chunks(cut.right_inputs));
        let weights: Vec<f64> = right.iter().map(|value| f64::from(*value)).collect();
        assert!(panels.take_weights(&weights, columns, columns, 0, &vec![0.0; columns]));
        let places: Vec<usize> = (0..rows).map(|row| columns * row).collect();
        let mut expected = vec![f32::NAN; rows * columns];
        Isa::best().run(Product {
            unit: &mut *Unit::Emulated.ready().unwrap().start(),
            bytes: &bytes,
            digits: &panels,
            places: &places,
            to: &mut expected,
            add: false,
            ahead: &[],
            scratch: &mut Scratch::default(),
        });
        for (k, expected) in expected.iter().enumerate() {
            let (row, a, j) = (k / columns, k % columns / cut.right_outputs, k % cut.right_outputs);
            let (frame, i) = (row / cut.left_inputs, row % cut.left_inputs);
            let found = t[((frame * cut.right_outputs + j) * cut.rank + a) * cut.left_inputs + i];
            assert_eq!(found.to_bits(), expected.to_bits(), "frame {frame}, row {i}, column ({a}, {j})");
        }
    }
}
