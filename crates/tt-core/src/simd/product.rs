//! The register-blocked product that every kernel here is made of, and the packing it needs.
//!
//! A *panel* is a block of B with two vectors' width, `[K, 2·LANES]`, contiguous: one load stream.

use super::Simd;

/// `C[R, 2·LANES] (+)= A[R, K] · B[K, 2·LANES]`; A is read at `row * a_row + k * a_k`.
///
/// Each element of C is one chain of multiply-adds in the order of k, whatever `R` is: results do not
/// depend on how rows are grouped.
#[inline(always)]
unsafe fn block<S: Simd, const R: usize>(at: &Operands, a: *const f32, c: *mut f32) {
    // SAFETY: the caller vouches for `R` rows of A and C, `k` rows of the panel and the instruction set.
    unsafe {
        let mut acc = [[S::splat(0.0); 2]; R];
        if at.add {
            for r in 0..R {
                prefetch::<S>(c.add(r * at.c_row), 2 * S::LANES);
            }
        }
        let mut b = at.b;
        let mut a_k = a;
        for _ in 0..at.k {
            let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*a_k.add(r * at.a_row));
                acc[0] = S::fma(x, b0, acc[0]);
                acc[1] = S::fma(x, b1, acc[1]);
            }
            a_k = a_k.add(at.a_k);
            b = b.add(2 * S::LANES);
        }
        for (r, acc) in acc.iter().enumerate() {
            let c = c.add(r * at.c_row);
            write::<S>(c, acc[0], at.columns, at.add);
            if at.columns > S::LANES {
                write::<S>(c.add(S::LANES), acc[1], at.columns - S::LANES, at.add);
            }
        }
    }
}

#[inline(always)]
unsafe fn write<S: Simd>(c: *mut f32, v: S::V, columns: usize, add: bool) {
    // SAFETY: the caller vouches for `columns` numbers, at least one; fewer than a vector are written as such.
    unsafe {
        if columns >= S::LANES {
            S::store(c, if add { S::add(S::load(c), v) } else { v });
        } else {
            let v = if add { S::add(S::load_partial(c, columns), v) } else { v };
            S::store_partial(c, v, columns);
        }
    }
}

/// The operands of [`product`]; distances are in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of A, rows of the panel.
    pub k: usize,
    /// A
    pub a: *const f32,
    /// From row to row of A.
    pub a_row: usize,
    /// From k to k of A.
    pub a_k: usize,
    /// One panel.
    pub b: *const f32,
    /// C
    pub c: *mut f32,
    /// From row to row of C.
    pub c_row: usize,
    /// Columns of C to write, at most `2·LANES`.
    pub columns: usize,
    /// Add to C, or overwrite it.
    pub add: bool,
}

/// `C (+)= A · panel` for any number of rows, in register blocks.
///
/// # Safety
/// All addresses that the sizes imply are valid; the processor has the instruction set of `S`.
#[inline(always)]
pub unsafe fn product<S: Simd>(at: &Operands) {
    // SAFETY: `done` counts rows up to `rows`, for which the caller vouches; a block has at most eight.
    unsafe {
        // Blocks of nearly equal height: nine rows are 5 + 4, not 8 + 1.
        let blocks = at.rows.div_ceil(S::MR);
        let mut done = 0;
        for i in 0..blocks {
            let rows = (at.rows - done).div_ceil(blocks - i);
            let (a, c) = (at.a.add(done * at.a_row), at.c.add(done * at.c_row));
            done += rows;
            match rows {
                1 => block::<S, 1>(at, a, c),
                2 => block::<S, 2>(at, a, c),
                3 => block::<S, 3>(at, a, c),
                4 => block::<S, 4>(at, a, c),
                5 => block::<S, 5>(at, a, c),
                6 => block::<S, 6>(at, a, c),
                7 => block::<S, 7>(at, a, c),
                _ => block::<S, 8>(at, a, c),
            }
        }
    }
}

/// Copies one row of `columns` values (`1..=2·LANES`) into a panel, zero beyond.
///
/// # Safety
/// The row and `2·LANES` values of the panel are valid; the processor has the instruction set of `S`.
#[inline(always)]
pub unsafe fn pack_row<S: Simd>(from: *const f32, columns: usize, panel: *mut f32) {
    // SAFETY: the caller vouches for `columns` numbers of the row and a whole panel; the second load starts inside the row.
    unsafe {
        if columns == 2 * S::LANES {
            S::store(panel, S::load(from));
            S::store(panel.add(S::LANES), S::load(from.add(S::LANES)));
        } else {
            let low = columns.min(S::LANES);
            S::store(panel, S::load_partial(from, low));
            let high = columns - low;
            let rest = if high > 0 { S::load_partial(from.add(low), high) } else { S::splat(0.0) };
            S::store(panel.add(S::LANES), rest);
        }
    }
}

/// Asks for `count` values.
///
/// # Safety
/// The processor has the instruction set of `S`; any address is allowed.
#[inline(always)]
pub unsafe fn prefetch<S: Simd>(from: *const f32, count: usize) {
    for j in (0..count).step_by(16) {
        // SAFETY: a hint, which faults on no address.
        unsafe { S::prefetch(from.wrapping_add(j)) };
    }
}
