//! Input dropout without stored masks.

/// Dropout of the input: a factor for each feature, clip and gate, constant over the frames of the clip, and
/// computed from a hash where it is used rather than stored.
#[derive(Clone, Copy, Debug)]
pub struct InputMask<'a> {
    /// Draws the masks.
    pub seed: u64,
    /// p, the share of features that a gate does not see; the others grow by `1 / (1-p)`.
    pub probability: f32,
    /// G: the outputs are G blocks of the same width, each with its own mask.
    pub gates: usize,
    /// T_b, so that rows find their clip. `[B]`
    pub lengths: &'a [usize],
}

impl InputMask<'_> {
    /// The factors of the features `from..from + out.len()`.
    pub fn fill(&self, gate: usize, clip: usize, from: usize, out: &mut [f32]) {
        self.keyed(gate, clip).fill(from, out);
    }

    pub(crate) fn keyed(&self, gate: usize, clip: usize) -> MaskRow {
        // splitmix64 of (seed, gate, clip)
        let mut key = self.seed ^ ((gate as u64) << 48) ^ (clip as u64).wrapping_mul(0xD605_1A1B_4D5A_3C6F);
        key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
        key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        key ^= key >> 31;
        let threshold = (f64::from(self.probability) * 4_294_967_296.0) as u32;
        MaskRow {
            first: key as u32,
            second: (key >> 32) as u32,
            threshold,
            keep: 1.0 / (1.0 - self.probability),
        }
    }
}

/// The mask of one gate and clip.
#[derive(Clone, Copy)]
pub(crate) struct MaskRow {
    first: u32,
    second: u32,
    threshold: u32,
    keep: f32,
}

impl MaskRow {
    #[inline(always)]
    pub(crate) fn fill(self, from: usize, out: &mut [f32]) {
        for (feature, out) in (from as u32..).zip(out) {
            let mut h = feature.wrapping_mul(0x9E37_79B1) ^ self.first;
            h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
            h = (h ^ (h >> 13)).wrapping_add(self.second).wrapping_mul(0xC2B2_AE35);
            h ^= h >> 16;
            *out = if h < self.threshold { 0.0 } else { self.keep };
        }
    }
}
