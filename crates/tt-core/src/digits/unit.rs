//! The units, which of them this machine has, and whether they compute what they should.

use std::sync::OnceLock;

use super::emulated::{CONFIG, Registers};
use super::{Bytes, Digits, Product, Scratch, Tiles};
use crate::simd::Isa;
use crate::{Error, Result};

/// What multiplies bytes by digits. All units come to the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The tile instructions in plain Rust, one by one: for tests.
    Emulated,
    /// Byte products of AVX-512 (VNNI).
    Vnni,
    /// Intel's tile registers (AMX).
    Amx,
}

impl Unit {
    /// All that there are, the slowest first.
    pub const ALL: [Self; 3] = [Self::Emulated, Self::Vnni, Self::Amx];

    /// `emulated`, `vnni` or `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emulated => "emulated",
            Self::Vnni => "vnni",
            Self::Amx => "amx",
        }
    }

    /// Whether this machine has the unit, and the unit computes a product of its own right, which is tried once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the reason.
    pub fn check(self) -> Result<()> {
        self.ready().map(drop)
    }

    pub(crate) fn ready(self) -> Result<Ready> {
        static WRONG: [OnceLock<bool>; 3] = [const { OnceLock::new() }; 3];
        if let Some(reason) = self.refusal() {
            return Err(Error::Unavailable(format!("products on {}: {reason}", self.name())));
        }
        let ready = Ready(self);
        if *WRONG[self as usize].get_or_init(|| ready.errs()) {
            return Err(Error::Unavailable(format!(
                "products on {}: small products of whole numbers differ from their emulation; please report this \
                 processor, and choose other kernels meanwhile (model.backend, or TT_FUSED=f32)",
                self.name()
            )));
        }
        Ok(ready)
    }

    /// Whether this machine has the unit at all.
    pub fn is_here(self) -> bool {
        self.refusal().is_none()
    }

    fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Emulated => None,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni if super::vnni::Vnni::is_here() => None,
            Self::Vnni => Some("the processor has no byte products (avx512f, avx512vnni)"),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => super::amx::refusal(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Amx => Some("the processor has no tile registers for bytes (amx-tile, amx-int8)"),
        }
    }
}

/// A unit that this machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready(Unit);

impl Ready {
    /// Which it is.
    pub(crate) fn unit(self) -> Unit {
        self.0
    }

    /// The unit for products on this thread.
    pub(crate) fn start(self) -> Box<dyn Tiles> {
        match self.0 {
            // SAFETY: a `Ready` is made only of a unit that nothing refuses.
            #[cfg(target_arch = "x86_64")]
            Unit::Vnni => Box::new(unsafe { super::vnni::Vnni::new() }),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Unit::Amx => Box::new(unsafe { super::amx::Configured::new() }),
            _ => Box::new(Registers::configured(&CONFIG)),
        }
    }

    /// Whether a small product differs from the emulation's.
    fn errs(self) -> bool {
        let sizes = [(1, 1, false), (70, 64, false), (150, 170, true), (33, 1000, true)];
        sizes.into_iter().any(|(rows, depth, add)| {
            sample(self, rows, depth, add) != sample(Self(Unit::Emulated), rows, depth, add)
        })
    }
}

/// A product of numbers without a pattern: `[rows, WIDTH]`.
fn sample(unit: Ready, rows: usize, depth: usize, add: bool) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let bytes: Vec<u8> = (0..rows * depth).map(|_| next() as u8).collect();
    let weights: Vec<f32> = (0..depth * WIDTH).map(|_| next() as f32 - 8e6).collect();
    let (mut panel, mut digits) = (Bytes::default(), Digits::default());
    panel.take_rows(rows, depth, bytes.chunks(depth));
    digits.take_rows(&weights, WIDTH, 3);
    let places: Vec<usize> = (0..rows).map(|row| WIDTH * row).collect();
    let mut to = vec![1e5; WIDTH * rows];
    Isa::best().run(Product {
        unit: &mut *unit.start(),
        bytes: &panel,
        digits: &digits,
        places: &places,
        to: &mut to,
        add,
        ahead: &[],
        scratch: &mut Scratch::default(),
    });
    to
}

/// Columns of a sample: a whole tile and one that is not full.
const WIDTH: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_that_is_here_agrees_with_the_emulation() {
        for unit in Unit::ALL {
            match unit.check() {
                Ok(()) => eprintln!("{} agrees", unit.name()),
                Err(error) => {
                    assert!(!unit.is_here(), "{error}");
                    eprintln!("skipped: {error}");
                }
            }
        }
    }

    /// One row, so that the sum of its products is all that is tested: what is added, and the digits' weights.
    #[test]
    fn the_emulation_multiplies() {
        let (sums, added) = ([false, true].map(|add| sample(Ready(Unit::Emulated), 1, 1, add))).into();
        for (sum, added) in std::iter::zip::<Vec<f32>, Vec<f32>>(sums, added) {
            assert_eq!(sum + 1e5, added);
        }
    }
}
