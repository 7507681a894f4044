//! Cuts a product into register blocks and calls the micro-kernels.
#![expect(unsafe_code, reason = "calls the micro-kernels")]

use super::micro::{INNER, Kernels, Lanewise, OUTER, Product, VECTORS, XS, YS};

/// Rows of a product: `outer` rows at the product's outer strides, each of `inner <= 4` rows at its inner
/// strides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowCount {
    pub(crate) outer: usize,
    pub(crate) inner: usize,
}

/// Rows of the largest register block.
const MOST: usize = OUTER * INNER;

/// For each size of a register block its outer and inner rows; zero where no kernel has that size.
const FACTORS: [(u8, u8); MOST + 1] = {
    let mut table = [(0, 0); MOST + 1];
    let mut inner = INNER;
    while inner > 0 {
        let mut outer = OUTER;
        while outer > 0 {
            table[outer * inner] = (outer as u8, inner as u8);
            outer -= 1;
        }
        inner -= 1;
    }
    table
};

/// Outer and inner rows of an allowed size.
fn factors(size: usize) -> (usize, usize) {
    (usize::from(FACTORS[size].0), usize::from(FACTORS[size].1))
}

/// Whether a register block may have this many rows.
fn allowed(rows: usize) -> bool {
    FACTORS[rows].0 > 0
}

/// Cuts `rows` into groups of nearly equal, allowed sizes: `(size, count)` twice.
fn groups(rows: usize, most: usize, allowed: impl Fn(usize) -> bool) -> [(usize, usize); 2] {
    if rows <= most && allowed(rows) {
        return [(0, 0), (rows, 1)];
    }
    // 32-bit divisions are several times faster.
    let (rows, mut count) = (rows as u32, (rows as u32).div_ceil(most as u32));
    loop {
        let small = rows / count;
        let large = rows - small * count;
        if allowed(small as usize) && (large == 0 || allowed(small as usize + 1)) {
            return [(small as usize + 1, large as usize), (small as usize, (count - large) as usize)];
        }
        count += 1;
    }
}

/// Runs a product over `columns` columns and any number of rows.
///
/// # Safety
/// The product's strides and counts must stay inside the buffers they point into.
pub(crate) unsafe fn product(kernels: &Kernels, m: &Product, rows: RowCount, columns: usize) {
    let vectors = columns.div_ceil(kernels.lanes);
    let widest = if kernels.accumulators < 24 { 2 } else { VECTORS };
    let last = columns - (vectors - 1) * kernels.lanes;
    let mut start = 0;
    for (width, count) in groups(vectors, widest, |_| true) {
        for _ in 0..count {
            let panel = Product {
                b: m.b.wrapping_add(start * kernels.lanes),
                c: m.c.wrapping_add(start * kernels.lanes),
                bias: if m.bias.is_null() { m.bias } else { m.bias.wrapping_add(start * kernels.lanes) },
                bytes: if start == 0 { m.bytes } else { std::ptr::null() },
                ahead_row: if start == 0 { m.ahead_row } else { 0 },
                last: if start + width == vectors && m.last == 0 { last } else { kernels.lanes },
                ..*m
            };
            // SAFETY: a panel of the caller's product.
            unsafe { panel_rows(kernels, &panel, rows, width) };
            start += width;
        }
    }
}

/// Runs one panel of `vectors` vectors.
unsafe fn panel_rows(kernels: &Kernels, m: &Product, rows: RowCount, vectors: usize) {
    let most = kernels.accumulators / vectors;
    let single = rows.inner == 1;
    let cut = if single {
        groups(rows.outer, most, allowed)
    } else {
        groups(rows.outer, (most / rows.inner).clamp(1, OUTER), |_| true)
    };
    let mut start = 0;
    for (size, count) in cut {
        if count == 0 {
            continue;
        }
        let mut part = Product {
            a: m.a.wrapping_add(start * m.a_outer),
            c: m.c.wrapping_add(start * m.c_outer),
            bytes: if m.bytes.is_null() { m.bytes } else { m.bytes.wrapping_add(start * m.a_outer) },
            ahead: m.ahead.wrapping_add(start * m.ahead_row),
            ..*m
        };
        let (outer, inner) = if single { factors(size) } else { (size, rows.inner) };
        if single {
            (part.a_inner, part.c_inner) = (m.a_outer, m.c_outer);
            (part.a_outer, part.c_outer) = (inner * m.a_outer, inner * m.c_outer);
        }
        let kernel = kernels.product[outer - 1][inner - 1][vectors - 1];
        if m.tiles == 1 {
            (part.tiles, part.a_tile, part.c_tile) = (count, size * m.a_outer, size * m.c_outer);
            // SAFETY: some of the caller's rows.
            unsafe { kernel(&part) };
        } else {
            for _ in 0..count {
                // SAFETY: some of the caller's rows.
                unsafe { kernel(&part) };
                part.a = part.a.wrapping_add(size * m.a_outer);
                part.c = part.c.wrapping_add(size * m.c_outer);
            }
        }
        start += size * count;
    }
}

/// Runs a lanewise product over `xs` and `ys` rows.
///
/// # Safety
/// As for [`product`].
pub(crate) unsafe fn lanewise(kernels: &Kernels, m: &Lanewise, xs: usize, ys: usize, narrow: bool) {
    let wide = if kernels.accumulators < 24 { kernels.accumulators / 4 } else { XS };
    let mut x = 0;
    for (rows, count) in groups(xs, wide, |_| true) {
        for _ in 0..count {
            let mut y = 0;
            for (size, groups) in groups(ys, YS.min(kernels.accumulators / rows), |_| true) {
                if groups > 0 {
                    let part = Lanewise {
                        x: m.x.wrapping_add(x * m.x_row),
                        y: m.y.wrapping_add(y * m.y_row),
                        c: m.c.wrapping_add(x * m.c_x + y * m.c_y),
                        groups,
                        ..*m
                    };
                    // SAFETY: some of the caller's rows.
                    unsafe { kernels.lanewise[usize::from(narrow)][rows - 1][size - 1](&part) };
                    y += size * groups;
                }
            }
            x += rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_all_rows_with_allowed_sizes() {
        for rows in 1..200 {
            for most in [1, 3, 4, 6, 8, 12, 24] {
                let cut = groups(rows, most, allowed);
                assert_eq!(cut.iter().map(|(size, count)| size * count).sum::<usize>(), rows);
                assert!(cut.iter().all(|&(size, count)| count == 0 || size <= most));
            }
        }
        assert_eq!(groups(100, 24, allowed)[1], (20, 5));
    }
}
