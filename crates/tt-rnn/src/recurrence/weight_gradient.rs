//! Gradients of `U`, `b` and the warm-up input: one product over the rows of all clips, in their order.

#![expect(unsafe_code, reason = "tiles of one matrix are written from several threads, each tile from one")]

use super::pack::each;
use super::{Batch, Cell, Gradients, Layout, Masks, Saved, Workspace};
use crate::simd::product::{Operands, product};
use crate::simd::{Isa, Kernel, Simd};

/// Rows multiplied at once; every chunk adds to the gradient, in order.
const CHUNK: usize = 256;

/// Rows of one step: where its gradient lies, and whose it is.
#[derive(Clone, Copy)]
struct Row<'a> {
    /// `[G·H]`
    dx: &'a [f32],
    clip: usize,
    warm: bool,
}

/// The left factor of a gate's product.
#[derive(Clone, Copy)]
enum Source {
    /// The state before the step, masked as for this gate.
    Hidden(usize),
    /// The masked `r∘h`, as saved.
    Reset,
}

pub(super) fn run(
    layout: &Layout,
    isa: Isa,
    workspace: &mut Workspace,
    x: &[f32],
    batch: &Batch<'_>,
    saved: &Saved,
    gradients: Gradients<'_>,
) {
    let (hidden, width, padded, panel) = (layout.hidden, layout.row(), layout.padded, layout.panel);
    let sources = sources(layout, batch);
    let rows = rows(layout, x, batch, saved);
    let mut no_warm = Vec::new();
    let warm_x = gradients.warm_x.unwrap_or_else(|| {
        no_warm.resize(width, 0.0);
        &mut no_warm
    });
    gradients.weights.fill(0.0);
    warm_x.fill(0.0);
    let (du, db) = gradients.weights.split_at_mut(hidden * width);
    let targets = Targets { du: du.as_mut_ptr(), db: db.as_mut_ptr(), warm_x: warm_x.as_mut_ptr() };

    let blocks = hidden.div_ceil(isa.block_rows());
    let tile = CHUNK * isa.block_rows();
    for (chunk, rows) in rows.chunks(CHUNK).enumerate() {
        let left = Left { layout, batch, saved, sources: &sources, rows, first: chunk * CHUNK };
        workspace.a.resize(sources.len() * blocks * tile);
        each(&mut workspace.a, tile, |i, out| {
            left.pack(i / blocks, i % blocks * isa.block_rows(), isa.block_rows(), out);
        });
        let a = &workspace.a[..];
        workspace.b.resize(layout.gates * padded * CHUNK);
        each(&mut workspace.b, CHUNK * panel, |i, b| {
            let gate = i / (padded / panel);
            let column = i % (padded / panel) * panel;
            let source = sources.iter().position(|s| matches(*s, gate, layout)).unwrap_or(0);
            let a = &a[source * blocks * tile..(source + 1) * blocks * tile];
            isa.run(Columns { layout, rows, a, b, gate, column, targets });
        });
    }
}

/// The left factors that differ: one for all gates, or one each, and the reset state of the GRU.
fn sources(layout: &Layout, batch: &Batch<'_>) -> Vec<Source> {
    let on_state = if layout.cell == Cell::Gru { 2 } else { layout.gates };
    let copies = if matches!(batch.masks, Masks::PerGate(_)) { on_state } else { 1 };
    let mut sources: Vec<_> = (0..copies).map(Source::Hidden).collect();
    if layout.cell == Cell::Gru {
        sources.push(Source::Reset);
    }
    sources
}

/// Whether `source` is the left factor of `gate` (the first source serves gates without their own).
fn matches(source: Source, gate: usize, layout: &Layout) -> bool {
    match source {
        Source::Hidden(own) => own == gate,
        Source::Reset => layout.cell == Cell::Gru && gate == 2,
    }
}

/// All steps of all clips, warm-up first, as in [`Saved`].
fn rows<'a>(layout: &Layout, x: &'a [f32], batch: &Batch<'_>, saved: &'a Saved) -> Vec<Row<'a>> {
    let width = layout.row();
    let (mut frames, mut warm_frames) = (x.chunks_exact(width), saved.warm.chunks_exact(width));
    let mut rows = Vec::with_capacity(batch.steps());
    for clip in 0..batch.lengths.len() {
        let warm = warm_frames.by_ref().take(batch.warm(clip));
        rows.extend(warm.map(|dx| Row { dx, clip, warm: true }));
        let own = frames.by_ref().take(batch.lengths[clip]);
        rows.extend(own.map(|dx| Row { dx, clip, warm: false }));
    }
    rows
}

/// The left factors of one chunk.
struct Left<'a> {
    layout: &'a Layout,
    batch: &'a Batch<'a>,
    saved: &'a Saved,
    sources: &'a [Source],
    rows: &'a [Row<'a>],
    /// Index of the first row among all.
    first: usize,
}

impl Left<'_> {
    /// Units `from..from + count` of all rows of the chunk, `[rows, count]`.
    fn pack(&self, source: usize, from: usize, count: usize, out: &mut [f32]) {
        let hidden = self.layout.hidden;
        let units = from..hidden.min(from + count);
        let all = match self.sources[source] {
            Source::Hidden(_) => &self.saved.hidden,
            Source::Reset => &self.saved.extra,
        };
        let all = all[self.first * hidden..].chunks_exact(hidden);
        for ((out, row), values) in out.chunks_exact_mut(count).zip(self.rows).zip(all) {
            let values = &values[units.clone()];
            let out = &mut out[..values.len()];
            let mask = match self.sources[source] {
                Source::Hidden(gate) => self.batch.mask(gate, row.clip, hidden),
                Source::Reset => None,
            };
            match mask {
                Some(mask) => {
                    out.iter_mut().zip(values).zip(&mask[units.clone()]).for_each(|((o, v), m)| *o = v * m);
                }
                None => out.copy_from_slice(values),
            }
        }
    }
}

/// The matrices that the threads fill, tile by tile.
#[derive(Clone, Copy)]
struct Targets {
    /// `[H, G·H]`
    du: *mut f32,
    /// `[G·H]`
    db: *mut f32,
    /// `[G·H]`
    warm_x: *mut f32,
}

// SAFETY: every work item writes its own columns of the three arrays and reads nothing else of them.
unsafe impl Send for Targets {}
// SAFETY: as above.
unsafe impl Sync for Targets {}

/// One panel of columns of one gate.
struct Columns<'a> {
    layout: &'a Layout,
    rows: &'a [Row<'a>],
    a: &'a [f32],
    /// Room for the packed right factor, `[CHUNK, panel]`.
    b: &'a mut [f32],
    gate: usize,
    column: usize,
    targets: Targets,
}

impl Kernel for Columns<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Layout { hidden, panel, .. } = *self.layout;
        let width = self.layout.row();
        let count = panel.min(hidden - self.column);
        let from = self.gate * hidden + self.column;
        for (out, row) in self.b.chunks_exact_mut(panel).zip(self.rows) {
            let (own, rest) = out.split_at_mut(count);
            own.copy_from_slice(&row.dx[from..from + count]);
            rest.fill(0.0);
        }
        // SAFETY: the addresses lie inside the matrices, whose sizes the caller has checked.
        unsafe {
            self.add_sums::<S>(count, self.targets.db.add(from), |_| true);
            self.add_sums::<S>(count, self.targets.warm_x.add(from), |row| row.warm);
            for (block, a) in self.a.chunks_exact(CHUNK * S::MR).enumerate() {
                product::<S>(&Operands {
                    rows: S::MR.min(hidden - block * S::MR),
                    k: self.rows.len(),
                    a: a.as_ptr(),
                    a_row: 1,
                    a_k: S::MR,
                    b: self.b.as_ptr(),
                    c: self.targets.du.add(block * S::MR * width + from),
                    c_row: width,
                    columns: count,
                    add: true,
                });
            }
        }
    }
}

impl Columns<'_> {
    /// `out += sum of the chosen rows`
    #[inline(always)]
    unsafe fn add_sums<S: Simd>(&self, count: usize, out: *mut f32, chosen: impl Fn(&Row<'_>) -> bool) {
        unsafe {
            let mut sums = [S::splat(0.0); 2];
            for (row, b) in self.rows.iter().zip(self.b.chunks_exact(2 * S::LANES)) {
                if chosen(row) {
                    sums[0] = S::add(sums[0], S::load(b.as_ptr()));
                    sums[1] = S::add(sums[1], S::load(b.as_ptr().add(S::LANES)));
                }
            }
            for (half, sum) in sums.into_iter().enumerate() {
                let at = half * S::LANES;
                if at < count {
                    let n = S::LANES.min(count - at);
                    let old = S::load_partial(out.add(at), n);
                    S::store_partial(out.add(at), S::add(old, sum), n);
                }
            }
        }
    }
}
