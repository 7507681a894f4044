//! The micro-kernels: two register-blocked products, instantiated for each instruction set.
#![expect(unsafe_code, reason = "raw pointers into checked buffers, and instruction sets chosen at run time")]

use crate::simd::{Choice, Isa, Simd, bytes};

/// A product of broadcast numbers with vectors: for every tile t, row (o, i) and vector v
/// `C[t, o, i, v] (+)= sum over (p, q) of A[t, o, i, p, q] * B[p, q, v]`.
///
/// Strides are in numbers. The kernel's constants are the counts of o, i and v.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) a: *const f32,
    pub(crate) a_tile: usize,
    pub(crate) a_outer: usize,
    pub(crate) a_inner: usize,
    pub(crate) a_p: usize,
    pub(crate) a_q: usize,
    pub(crate) b: *const f32,
    pub(crate) b_p: usize,
    pub(crate) b_q: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_tile: usize,
    pub(crate) c_outer: usize,
    pub(crate) c_inner: usize,
    pub(crate) tiles: usize,
    pub(crate) ps: usize,
    pub(crate) qs: usize,
    /// Lanes of the last vector that are stored.
    pub(crate) last: usize,
    /// Start from C.
    pub(crate) add: bool,
    /// Else start from these vectors, or from zero where it is null.
    pub(crate) bias: *const f32,
    /// Where not null: A's rows are contiguous and not there yet, and these are their bytes.
    pub(crate) bytes: *const u8,
    /// Asked for meanwhile, `ahead_row` bytes with each outer row; need not exist. A burst of requests would
    /// fill the miss buffers and wait.
    pub(crate) ahead: *const u8,
    pub(crate) ahead_row: usize,
}

/// An outer product along lanes: for every tile t, rows x and y and vector v
/// `C[t, x, y, v] (+)= sum over c of X[t, x, c, v] * Y[y, c, v]`, Y four numbers wide where `narrow`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanewise {
    pub(crate) x: *const f32,
    pub(crate) x_row: usize,
    pub(crate) x_c: usize,
    pub(crate) y: *const f32,
    pub(crate) y_row: usize,
    pub(crate) y_c: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_x: usize,
    pub(crate) c_y: usize,
    pub(crate) cs: usize,
    pub(crate) vectors: usize,
    /// Groups of y rows to do one after the other.
    pub(crate) groups: usize,
    /// Lanes of the last vector that are stored.
    pub(crate) last: usize,
    /// Start from C, whose vectors are whole.
    pub(crate) add: bool,
}

pub(crate) type ProductFn = unsafe fn(&Product);
pub(crate) type LanewiseFn = unsafe fn(&Lanewise);

/// Largest count of outer rows, inner rows and vectors of [`ProductFn`]s.
pub(crate) const OUTER: usize = 8;
pub(crate) const INNER: usize = 4;
pub(crate) const VECTORS: usize = 4;
/// Largest count of x and y rows of [`LanewiseFn`]s.
pub(crate) const XS: usize = 4;
pub(crate) const YS: usize = 6;

/// The kernels of one instruction set.
pub(crate) struct Kernels {
    pub(crate) lanes: usize,
    pub(crate) accumulators: usize,
    /// By outer rows, inner rows and vectors, each less one.
    pub(crate) product: [[[ProductFn; VECTORS]; INNER]; OUTER],
    /// By narrowness, x rows and y rows, the latter two less one.
    pub(crate) lanewise: [[[LanewiseFn; YS]; XS]; 2],
    /// Pixels to numbers: `(from, to, len)`.
    pub(crate) bytes: unsafe fn(*const u8, *mut f32, usize),
    /// Rows `[j, c]` to lanes `[c, (j, a)]`, see [`Spread`].
    pub(crate) spread: unsafe fn(&Spread),
}

/// Spreads numbers over lanes for [`Lanewise`]: `to [x, c, (j, a)] = rows [(x, j), c]`, the same number for
/// all `rank` values of a. Lanes from `n * rank` on, and three numbers after the end, may hold anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) rows: *const f32,
    pub(crate) stride: usize,
    pub(crate) xs: usize,
    pub(crate) n: usize,
    pub(crate) rank: usize,
    pub(crate) columns: usize,
    pub(crate) to: *mut f32,
    pub(crate) width: usize,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// Hides from the compiler where an offset comes from: it would otherwise keep one pointer per row of a
/// register block, more than there are registers, instead of one per outer and one per inner row.
#[inline(always)]
fn opaque(offset: usize) -> usize {
    let mut hidden = offset;
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) hidden, options(pure, nomem, nostack, preserves_flags));
    }
    hidden
}

#[inline(always)]
unsafe fn product<S: Simd, const O: usize, const I: usize, const V: usize>(m: &Product) {
    if O * I * V > S::ACCUMULATORS {
        return; // never planned; keeps the compiler from building it
    }
    // SAFETY: the caller's strides and counts describe memory it owns.
    unsafe {
        // A tile is converted while the one before keeps the multipliers busy.
        let len = O * m.a_outer;
        if !m.bytes.is_null() {
            bytes::<S>(m.bytes, m.a.cast_mut(), len);
        }
        for t in 0..m.tiles {
            if !m.bytes.is_null() && t + 1 < m.tiles {
                let at = (t + 1) * m.a_tile;
                bytes::<S>(m.bytes.add(at), m.a.cast_mut().add(at), len);
            }
            prefetch::<S>(m.ahead.wrapping_add(t * O * I * m.ahead_row), O * I * m.ahead_row);
            let a = m.a.add(t * m.a_tile);
            let c = m.c.add(t * m.c_tile);
            let mut acc = [[[S::splat(0.0); V]; I]; O];
            if m.add {
                for o in 0..O {
                    for i in 0..I {
                        for v in 0..V {
                            acc[o][i][v] = S::load(c.add(o * m.c_outer + i * m.c_inner + v * S::LANES));
                        }
                    }
                }
            } else if !m.bias.is_null() {
                for o in 0..O {
                    for i in 0..I {
                        for v in 0..V {
                            acc[o][i][v] = S::load(m.bias.add(v * S::LANES));
                        }
                    }
                }
            }
            let mut base = [a; O];
            for o in 0..O {
                base[o] = a.add(opaque(o * m.a_outer));
            }
            for p in 0..m.ps {
                let mut at = [0; I];
                for i in 0..I {
                    at[i] = opaque(p * m.a_p + i * m.a_inner);
                }
                let mut b = m.b.add(p * m.b_p);
                for _ in 0..m.qs {
                    let mut row = [S::splat(0.0); V];
                    for v in 0..V {
                        row[v] = S::load(b.add(v * S::LANES));
                    }
                    for o in 0..O {
                        for i in 0..I {
                            let x = S::splat(*base[o].add(at[i]));
                            for v in 0..V {
                                acc[o][i][v] = S::fma(x, row[v], acc[o][i][v]);
                            }
                        }
                    }
                    for i in 0..I {
                        at[i] = opaque(at[i] + m.a_q);
                    }
                    b = b.add(m.b_q);
                }
            }
            for o in 0..O {
                for i in 0..I {
                    let to = c.add(o * m.c_outer + i * m.c_inner);
                    for v in 0..V - 1 {
                        S::store(to.add(v * S::LANES), acc[o][i][v]);
                    }
                    let to = to.add((V - 1) * S::LANES);
                    if m.last == S::LANES {
                        S::store(to, acc[o][i][V - 1]);
                    } else {
                        S::store_partial(to, acc[o][i][V - 1], m.last);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn lanewise<S: Simd, const X: usize, const Y: usize, const NARROW: bool>(m: &Lanewise) {
    if X * Y > S::ACCUMULATORS {
        return; // never planned; keeps the compiler from building it
    }
    // SAFETY: the caller's strides and counts describe memory it owns.
    unsafe {
        for g in 0..m.groups {
            for v in 0..m.vectors {
                let mut acc = [[S::splat(0.0); Y]; X];
                if m.add {
                    for i in 0..X {
                        for j in 0..Y {
                            acc[i][j] = S::load(m.c.add(i * m.c_x + (g * Y + j) * m.c_y + v * S::LANES));
                        }
                    }
                }
                let mut x = m.x.add(v * S::LANES);
                let mut y = m.y.add(g * Y * m.y_row + if NARROW { 0 } else { v * S::LANES });
                for _ in 0..m.cs {
                    let mut left = [S::splat(0.0); X];
                    for i in 0..X {
                        left[i] = S::load(x.add(i * m.x_row));
                    }
                    for j in 0..Y {
                        let at = y.add(j * m.y_row);
                        let right = if NARROW { S::load4(at) } else { S::load(at) };
                        for i in 0..X {
                            acc[i][j] = S::fma(left[i], right, acc[i][j]);
                        }
                    }
                    x = x.add(m.x_c);
                    y = y.add(m.y_c);
                }
                for i in 0..X {
                    for j in 0..Y {
                        let to = m.c.add(i * m.c_x + (g * Y + j) * m.c_y + v * S::LANES);
                        if m.last == S::LANES || v + 1 < m.vectors {
                            S::store(to, acc[i][j]);
                        } else {
                            S::store_partial(to, acc[i][j], m.last);
                        }
                    }
                }
            }
        }
    }
}

/// Asks for a range of bytes, which need not exist.
#[inline(always)]
unsafe fn prefetch<S: Simd>(from: *const u8, len: usize) {
    for k in (0..len).step_by(64) {
        // SAFETY: a hint, which touches nothing.
        unsafe { S::prefetch_near(from.wrapping_add(k)) }
    }
}

#[inline(always)]
unsafe fn spread<S: Simd>(m: &Spread) {
    // SAFETY: the caller's strides and counts describe memory it owns; a later row overwrites what an
    // earlier one writes too much.
    unsafe {
        for x in 0..m.xs {
            let rows = m.rows.add(x * m.n * m.stride);
            let to = m.to.add(x * m.columns * m.width);
            // It reads whole vectors of 16: where rows are no multiple of that apart, the last would end behind them.
            let whole = m.stride.is_multiple_of(16) && m.columns.is_multiple_of(4);
            if m.n == 4 && m.rank == 4 && m.width == 16 && whole {
                S::spread(rows, m.stride, m.columns, to);
                continue;
            }
            for c in 0..m.columns {
                for j in 0..m.n {
                    let value = [*rows.add(j * m.stride + c); 4];
                    for a in (0..m.rank).step_by(4) {
                        to.add(c * m.width + j * m.rank + a).cast::<[f32; 4]>().write_unaligned(value);
                    }
                }
            }
        }
    }
}

macro_rules! kernels {
    ($module:ident, $simd:ident $(, $features:literal)?) => {
        mod $module {
            use crate::simd::{Simd, $simd as S};
            use super::{Kernels, Lanewise, Product, Spread};

            $(#[target_feature(enable = $features)])?
            unsafe fn product<const O: usize, const I: usize, const V: usize>(m: &Product) {
                // SAFETY: passed on to the caller.
                unsafe { super::product::<S, O, I, V>(m) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn lanewise<const X: usize, const Y: usize, const NARROW: bool>(m: &Lanewise) {
                // SAFETY: passed on to the caller.
                unsafe { super::lanewise::<S, X, Y, NARROW>(m) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn bytes(from: *const u8, to: *mut f32, len: usize) {
                // SAFETY: passed on to the caller.
                unsafe { crate::simd::bytes::<S>(from, to, len) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn spread(m: &Spread) {
                // SAFETY: passed on to the caller.
                unsafe { super::spread::<S>(m) }
            }

            macro_rules! vectors {
                ($o:literal, $i:literal) => {
                    [product::<$o, $i, 1>, product::<$o, $i, 2>, product::<$o, $i, 3>, product::<$o, $i, 4>]
                };
            }
            macro_rules! inner {
                ($o:literal) => {
                    [vectors!($o, 1), vectors!($o, 2), vectors!($o, 3), vectors!($o, 4)]
                };
            }
            macro_rules! ys {
                ($x:literal, $n:literal) => {
                    [
                        lanewise::<$x, 1, $n>,
                        lanewise::<$x, 2, $n>,
                        lanewise::<$x, 3, $n>,
                        lanewise::<$x, 4, $n>,
                        lanewise::<$x, 5, $n>,
                        lanewise::<$x, 6, $n>,
                    ]
                };
            }
            pub(crate) static KERNELS: Kernels = Kernels {
                lanes: S::LANES,
                accumulators: S::ACCUMULATORS,
                product: [
                    inner!(1), inner!(2), inner!(3), inner!(4), inner!(5), inner!(6), inner!(7), inner!(8),
                ],
                lanewise: [
                    [ys!(1, false), ys!(2, false), ys!(3, false), ys!(4, false)],
                    [ys!(1, true), ys!(2, true), ys!(3, true), ys!(4, true)],
                ],
                bytes,
                spread,
            };
        }
    };
}

kernels!(scalar, Scalar);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(narrow, Narrow, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "aarch64")]
kernels!(neon, Neon, "neon");

/// The kernels of an instruction set.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    match isa.choice() {
        #[cfg(target_arch = "x86_64")]
        Choice::Avx512 => &avx512::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Choice::Narrow => &narrow::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Choice::Avx2 => &avx2::KERNELS,
        #[cfg(target_arch = "aarch64")]
        Choice::Neon => &neon::KERNELS,
        Choice::Scalar => &scalar::KERNELS,
    }
}
