//! Frame rates, and the choice of frames that FFmpeg's `fps` filter makes.

use serde::{Deserialize, Serialize};

/// A number of frames per second, or a time base in seconds, as an exact fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fraction {
    /// Numerator.
    pub num: i64,
    /// Denominator, above 0.
    pub den: i64,
}

impl Fraction {
    /// `num / den`.
    pub const fn new(num: i64, den: i64) -> Self {
        Self { num, den }
    }

    /// The value in floating point.
    pub fn value(self) -> f64 {
        self.num as f64 / self.den as f64
    }
}

/// Which frames of a clip are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rate", content = "fps")]
pub enum Rate {
    /// Every frame, at the clip's own rate.
    Native,
    /// Resampled to this many frames a second, as the `fps` filter does (frames may repeat).
    Exactly(u32),
    /// The clip's own rate, brought down to this many frames a second where it is higher.
    AtMost(u32),
}

impl Rate {
    /// The rate to resample to, or `None` to keep every frame of a clip of `native` frames a second.
    pub fn target(self, native: Option<Fraction>) -> Option<u32> {
        match self {
            Self::Native => None,
            Self::Exactly(fps) => Some(fps),
            Self::AtMost(fps) => native.filter(|native| native.value() > f64::from(fps)).map(|_| fps),
        }
    }
}

/// `round(value · from / to)`, half away from zero, as FFmpeg's `AV_ROUND_NEAR_INF`.
///
/// `from` and `to` are the lengths of one tick, in seconds.
pub fn rescale(value: i64, from: Fraction, to: Fraction) -> i64 {
    let num = i128::from(value) * i128::from(from.num) * i128::from(to.den);
    let den = i128::from(from.den) * i128::from(to.num);
    let (num, den) = if den < 0 { (-num, -den) } else { (num, den) };
    let half = if num < 0 { -(den / 2) } else { den / 2 };
    i64::try_from((num + half) / den.max(1)).unwrap_or(if num < 0 { i64::MIN } else { i64::MAX })
}

/// Chooses frames as FFmpeg's `fps` filter (`round=near`, `eof_action=round`) does.
///
/// The filter holds two frames; [`FpsSampler::push`] says how many copies of the *held* frame are due before
/// the new one takes its place, [`FpsSampler::finish`] how many at the end.
///
/// # Examples
/// ```
/// # use video_data::rate::FpsSampler;
/// let mut sampler = FpsSampler::default();
/// // Presentation times in ticks of the output rate: 30 frames a second brought down to 24.
/// let copies: Vec<usize> = (0..5).map(|t| sampler.push((t * 24 + 15) / 30)).collect();
/// assert_eq!(copies, [0, 1, 1, 0, 1]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct FpsSampler {
    next: Option<i64>,
    held: bool,
}

impl FpsSampler {
    /// A new frame at `pts` output ticks: how often the held frame is put out before it.
    pub fn push(&mut self, pts: i64) -> usize {
        let due = self.next.get_or_insert(pts);
        let copies = if self.held { (pts - *due).max(0) } else { 0 };
        *due += copies;
        self.held = true;
        copies as usize
    }

    /// The end of the stream at `end` output ticks: how often the last frame is put out.
    pub fn finish(&mut self, end: i64) -> usize {
        let Some(due) = self.next else { return 0 };
        if self.held { (end - due).max(0) as usize } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescale_rounds_half_away_from_zero() {
        let (tick, frame) = (Fraction::new(1, 2), Fraction::new(1, 1));
        assert_eq!([-3, -1, 0, 1, 3].map(|v| rescale(v, tick, frame)), [-2, -1, 0, 1, 2]);
    }

    #[test]
    fn a_rate_is_never_raised_by_at_most() {
        assert_eq!(Rate::AtMost(24).target(Some(Fraction::new(15, 1))), None);
        assert_eq!(Rate::AtMost(24).target(Some(Fraction::new(30_000, 1001))), Some(24));
        assert_eq!(Rate::Exactly(24).target(Some(Fraction::new(15, 1))), Some(24));
        assert_eq!(Rate::AtMost(24).target(None), None);
    }

    #[test]
    fn halving_keeps_every_second_frame() {
        let mut sampler = FpsSampler::default();
        let mut total = 0;
        for pts in 0..100 {
            total += sampler.push(rescale(pts, Fraction::new(1, 24), Fraction::new(1, 12)));
        }
        assert_eq!(total + sampler.finish(50), 50);
    }
}
