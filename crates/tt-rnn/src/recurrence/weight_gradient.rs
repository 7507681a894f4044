//! Gradients of `U`, `b` and the warm-up input: one product over the rows of all clips, in their order.

#![expect(unsafe_code, reason = "tiles of one matrix are written from several threads, each tile from one")]

use super::forward::load;
use super::pack::each;
use super::{Batch, Cell, Gradients, Layout, Masks, Saved, Workspace};
use tt_core::simd::product::{Operands, pack_row, prefetch, product};
use tt_core::simd::{Isa, Kernel, Simd};

/// Rows multiplied at once; every chunk adds to the gradient, in order.
const CHUNK: usize = 256;

/// Units side by side in the packed left factor.
const GROUP: usize = 16;

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

    let blocks = hidden.div_ceil(GROUP);
    let tile = CHUNK * GROUP;
    for (chunk, rows) in rows.chunks(CHUNK).enumerate() {
        let first = chunk * CHUNK;
        workspace.a.resize(sources.len() * blocks * tile);
        each(&mut workspace.a, tile, |i, out| {
            let (source, from) = (sources[i / blocks], i % blocks * GROUP);
            isa.run(Left { layout, batch, saved, source, rows, first, from, out });
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

/// `GROUP` units of the left factor, for all rows of one chunk.
struct Left<'a> {
    layout: &'a Layout,
    batch: &'a Batch<'a>,
    saved: &'a Saved,
    source: Source,
    rows: &'a [Row<'a>],
    /// Index of the first row among all.
    first: usize,
    /// The first unit.
    from: usize,
    /// `[CHUNK, GROUP]`
    out: &'a mut [f32],
}

impl Kernel for Left<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let hidden = self.layout.hidden;
        let count = GROUP.min(hidden - self.from);
        let all = match self.source {
            Source::Hidden(_) => &self.saved.hidden[self.first * hidden..],
            Source::Reset => &self.saved.extra[self.first * hidden..],
        };
        let values = all.chunks_exact(hidden);
        for ((out, row), values) in self.out.chunks_exact_mut(GROUP).zip(self.rows).zip(values) {
            let mask = match self.source {
                Source::Hidden(gate) => self.batch.mask(gate, row.clip, hidden),
                Source::Reset => None,
            };
            // SAFETY: `from + count <= hidden`, the length of a row and of a mask.
            unsafe {
                let values = values.as_ptr().add(self.from);
                for j in (0..count).step_by(S::LANES) {
                    let n = S::LANES.min(count - j);
                    let mut v = load::<S>(values.add(j), n);
                    if let Some(mask) = mask {
                        v = S::mul(v, load::<S>(mask.as_ptr().add(self.from + j), n));
                    }
                    S::store(out.as_mut_ptr().add(j), v);
                }
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
            let dx = &row.dx[from..from + count];
            // SAFETY: `out` is as wide as a panel.
            unsafe { pack_row::<S>(dx.as_ptr(), count, out.as_mut_ptr()) };
        }
        // SAFETY: the addresses lie inside the matrices, whose sizes the caller has checked.
        unsafe {
            self.add_sums::<S>(count, self.targets.db.add(from), |_| true);
            if self.rows.iter().any(|row| row.warm) {
                self.add_sums::<S>(count, self.targets.warm_x.add(from), |row| row.warm);
            }
            // The next panel lies beside this one: ask for it bit by bit while this one is multiplied.
            let blocks = self.a.len() / (CHUNK * GROUP);
            let mut ahead = self.rows.chunks(self.rows.len().div_ceil(blocks));
            for (block, a) in self.a.chunks_exact(CHUNK * GROUP).enumerate() {
                for row in ahead.next().unwrap_or_default() {
                    prefetch::<S>(row.dx.as_ptr().wrapping_add(from + count), panel);
                }
                product::<S>(&Operands {
                    rows: GROUP.min(hidden - block * GROUP),
                    k: self.rows.len(),
                    a: a.as_ptr(),
                    a_row: 1,
                    a_k: GROUP,
                    b: self.b.as_ptr(),
                    c: self.targets.du.add(block * GROUP * width + from),
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
        // SAFETY: a packed row is two vectors; the caller vouches for `count` numbers of `out`.
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
