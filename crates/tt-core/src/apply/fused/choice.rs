//! Which kernels a layer runs on: in f32, or by digits on one of the units for bytes.
//!
//! On its own a layer takes the unit for a pass where the estimates below promise less time: products counted block by
//! block, padding included, each at the rate that was measured for its kind. The number of rows does not count, so that a
//! row has the same bits in every batch.

use std::sync::OnceLock;

use super::panels::Groups;
use super::plan::Plan;
use crate::digits::{COLUMNS, ROWS, Ready, STEP, Unit};
use crate::{Error, Result};

/// The kernels that a layer on the CPU may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// What is fastest here: see [`Path::VARIABLE`] and the module's rule.
    Automatic,
    /// Vectors of f32.
    F32,
    /// Bytes by digits on a unit, wherever a layer has two cores and rows of bytes; in f32 elsewhere.
    Digits(Unit),
}

impl Path {
    /// The environment variable that names another path than the automatic one: `f32`, `emulated`, `vnni` or `amx`.
    pub const VARIABLE: &'static str = "TT_FUSED";

    /// The unit that this path names, or may choose where it pays, and whether it was named.
    pub(in crate::apply) fn unit(self) -> Result<Option<(Ready, bool)>> {
        match self {
            Self::F32 => Ok(None),
            Self::Digits(unit) => Ok(Some((unit.ready()?, true))),
            Self::Automatic => match named()? {
                Some(path) => path.unit(),
                None => Ok(fastest().map(|unit| (unit, false))),
            },
        }
    }

    /// Whether this machine can run it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the reason, [`Error::Unknown`] if the environment variable names nothing known.
    pub fn check(self) -> Result<()> {
        self.unit().map(drop)
    }
}

/// What the environment variable names.
fn named() -> Result<Option<Path>> {
    let name = std::env::var_os(Path::VARIABLE).filter(|name| !name.is_empty());
    let Some(name) = name else { return Ok(None) };
    let name = name.to_string_lossy();
    if name == "f32" {
        return Ok(Some(Path::F32));
    }
    match Unit::ALL.into_iter().find(|unit| unit.name() == name) {
        Some(unit) => Ok(Some(Path::Digits(unit))),
        None => Err(Error::Unknown {
            what: "kernels in the environment variable TT_FUSED",
            name: name.into_owned(),
            choices: "f32, emulated, vnni, amx",
        }),
    }
}

/// The fastest unit that nobody needs to name.
fn fastest() -> Option<Ready> {
    static FASTEST: OnceLock<Option<Ready>> = OnceLock::new();
    *FASTEST.get_or_init(|| {
        let mut units = [Unit::Amx, Unit::Vnni].into_iter().filter(|unit| unit.is_here());
        units.find_map(|unit| {
            unit.ready().inspect_err(|error| tracing::warn!("{error}; layers run without it")).ok()
        })
    })
}

/// Estimated cost of a frame's last two cores, in vectors of 16 multiply-accumulates: forwards, backwards.
pub(super) fn cost_f32(plan: &Plan) -> [usize; 2] {
    let [.., before, last] = &plan.steps[..] else { return [usize::MAX; 2] };
    let row = before.rho * before.width;
    let forward = before.outer * before.m * (last.m * last.width + before.right * row);
    let backward = if plan.pair.is_some() { before.outer * before.m * last.m * row } else { 2 * forward };
    [forward / 16, backward / 16]
}

/// The same by digits on a unit: its products, what is done with every sum, and the packing of bytes and of dT.
pub(super) fn cost_digits(plan: &Plan, groups: Groups, unit: Unit) -> [usize; 2] {
    let [.., before, last] = &plan.steps[..] else { return [usize::MAX; 2] };
    let (features, row) = (before.m * last.m, before.rho * before.columns);
    let tiles = row.div_ceil(COLUMNS);
    let group = |frames: usize, rows: usize, depth: usize| {
        let blocks = rows.div_ceil(ROWS) * tiles;
        let products = match unit {
            // A tile product takes as long as 41 vector FMAs (5.35 against 0.132 ns on a Sapphire Rapids core).
            Unit::Amx => 41 * 6 * depth.div_ceil(STEP),
            // A vector of byte products, its loads included, takes as long as 5/4 FMAs (Zen 4, ranks 4 to 16).
            Unit::Vnni | Unit::Emulated => 5 * 3 * ROWS * depth.div_ceil(4) / 4,
        };
        blocks * (products + SUM * ROWS) / frames
    };
    let forward = group(groups.forward, groups.forward * before.outer, features);
    let backward = group(groups.backward, features, groups.backward * before.outer);
    let packed = before.outer * row.next_multiple_of(COLUMNS) / 16;
    [forward + BYTE * plan.inputs / 64, backward + BYTES_TURNED * plan.inputs / 64 + DIGITS * packed]
}

/// Vectors of FMAs in whose time 16 sums are combined.
const SUM: usize = 8;
/// In whose time 64 bytes are packed, as they are and transposed.
const BYTE: usize = 4;
const BYTES_TURNED: usize = 64;
/// In whose time 16 numbers are cut into digits.
const DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TtShape;

    #[test]
    fn units_pay_where_their_products_cost_less() {
        let pays = |modes: &[usize], outputs: &[usize], rank: usize, unit: Unit| {
            let shape = TtShape::uniform(modes, outputs, rank, 3).unwrap();
            let plan = Plan::by_digits(&shape, 16);
            let groups = Groups::of(&plan).unwrap();
            let (ours, theirs) = (cost_digits(&plan, groups, unit), cost_f32(&Plan::new(&shape, 16)));
            [0, 1].map(|pass| ours[pass] < theirs[pass])
        };
        for rank in [2, 4, 8, 16] {
            let ucf11 = |unit| pays(&[8, 20, 20, 18], &[4; 4], rank, unit);
            assert_eq!(ucf11(Unit::Amx), [true; 2], "rank {rank}");
            // Measured on Zen 4: 294 against 356 us a frame forwards at rank 16, and more everywhere else.
            assert_eq!(ucf11(Unit::Vnni), [rank == 16, false], "rank {rank}");
        }
        let two_cores = pays(&[240, 240], &[16, 16], 4, Unit::Amx);
        assert_eq!(two_cores, [false; 2], "a frame is one row of a tile, and the matrix is the whole W");
    }
}
