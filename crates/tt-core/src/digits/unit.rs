//! The units, which of them this machine has, and whether they compute what they should.

use std::sync::OnceLock;

use super::emulated::{CONFIG, Registers};
use super::{Block, Line, ROWS, Sums, Tiles};
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
        [1, 16, 43].into_iter().any(|quads| sample(self, quads) != sample(Self(Unit::Emulated), quads))
    }
}

/// The sums of a product of numbers without a pattern.
fn sample(unit: Ready, quads: usize) -> Box<super::BlockSums> {
    let steps = usize::div_ceil(quads, 16);
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut lines = |count| (0..count).map(|_| Line(std::array::from_fn(|_| next()))).collect::<Vec<_>>();
    let (bytes, mut digits) = (lines(steps * ROWS), lines(steps * 48));
    for (at, line) in digits.iter_mut().enumerate() {
        if at / 48 * 16 + at % 16 >= quads {
            *line = Line::ZERO;
        }
    }
    let start = [1, -70_000, i32::MAX].map(|start| Sums(std::array::from_fn(|column| start - column as i32)));
    let mut sums = Box::new([Sums::ZERO; 96]);
    let mut block = Block { bytes: &bytes, digits: &digits, start: &start, sums: &mut sums, quads };
    unit.start().multiply(&mut block);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product by its definition, without tiles.
    #[test]
    fn the_emulation_multiplies() {
        let (bytes, digits) = (vec![Line([3; 64]); 32], vec![Line([0xfe; 64]); 48]);
        let start = [Sums([10; 16]), Sums([0; 16]), Sums([-5; 16])];
        let mut sums = Box::new([Sums::ZERO; 96]);
        let mut block = Block { bytes: &bytes, digits: &digits, start: &start, sums: &mut sums, quads: 16 };
        Ready(Unit::Emulated).start().multiply(&mut block);
        for (at, sums) in sums.iter().enumerate() {
            let expected = [10, 0, -5][at / 16 % 3] - 64 * 3 * 2;
            assert_eq!(sums.0, [expected; 16], "line {at}");
        }
    }

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
}
