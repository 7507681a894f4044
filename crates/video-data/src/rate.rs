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
    /// The clip's own rate, reduced to this many frames a second if it is higher.
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
    /// Takes a frame at `pts` output ticks; returns how often to output the held frame before it.
    pub fn push(&mut self, pts: i64) -> usize {
        let due = self.next.get_or_insert(pts);
        let copies = if self.held { pts.saturating_sub(*due).max(0) } else { 0 };
        *due += copies;
        self.held = true;
        copies as usize
    }

    /// Ends the stream at `end` output ticks; returns how often to output the last frame.
    pub fn finish(&mut self, end: i64) -> usize {
        let Some(due) = self.next else { return 0 };
        if self.held { end.saturating_sub(due).max(0) as usize } else { 0 }
    }

    /// Whether a frame is held.
    pub fn holds(&self) -> bool {
        self.held
    }
}

/// Longest gap between two pictures that counts as a pause, in seconds: `ffmpeg -dts_delta_threshold`.
const LONGEST_GAP_S: i64 = 10;

/// Puts pictures on one timeline without jumps, so that none is shown for longer than ten seconds.
///
/// Where the next picture comes more than ten seconds after the one before, or more than a second before it,
/// two recordings were joined or a clock was reset: it then follows one frame after the one before, and later
/// pictures keep that shift. The `ffmpeg` command line fills such a gap with copies, and drops pictures until
/// time has caught up.
///
/// # Examples
/// ```
/// # use video_data::rate::{Fraction, Timeline};
/// let mut timeline = Timeline::new(Fraction::new(1, 25), 1);
/// let times: Vec<i64> = [0, 1, 15_000, 15_001, 0, 1].map(|time| timeline.place(time)).to_vec();
/// assert_eq!(times, [0, 1, 2, 3, 4, 5]);
/// assert_eq!(timeline.jumps(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct Timeline {
    longest_gap: i64,
    second: i64,
    /// Length of a picture: the last step from one to the next that was no pause.
    frame: i64,
    shift: i64,
    last: Option<i64>,
    jumps: u64,
}

impl Timeline {
    /// A timeline with ticks of `tick` seconds; a picture is thought to last `frame` of them.
    pub fn new(tick: Fraction, frame: i64) -> Self {
        let ticks = |seconds| rescale(seconds, Fraction::new(1, 1), tick).max(1);
        let second = ticks(1);
        Self {
            longest_gap: ticks(LONGEST_GAP_S),
            second,
            // Gaps lower the mean rate, by which a frame may seem to last minutes.
            frame: frame.clamp(1, second),
            shift: 0,
            last: None,
            jumps: 0,
        }
    }

    /// When to show the picture that the clip has at `time`.
    pub fn place(&mut self, time: i64) -> i64 {
        let mut shown = time.saturating_add(self.shift);
        if let Some(last) = self.last {
            let gap = shown.saturating_sub(last);
            if gap > self.longest_gap || gap < -self.second {
                self.jumps += 1;
                shown = last.saturating_add(self.frame);
                self.shift = shown.saturating_sub(time);
            } else if (1..=self.second).contains(&gap) {
                self.frame = gap;
            }
        }
        self.last = Some(self.last.map_or(shown, |last| last.max(shown)));
        shown
    }

    /// When the last picture ends, if the clip ends at `time`.
    pub fn end(&mut self, time: i64) -> i64 {
        let end = time.saturating_add(self.shift);
        match self.last {
            Some(last) if end.saturating_sub(last) > self.longest_gap => {
                self.jumps += 1;
                last.saturating_add(self.frame)
            }
            _ => end,
        }
    }

    /// Number of jumps removed.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_picture_is_shown_for_longer_than_ten_seconds(
            times in proptest::collection::vec(any::<i64>(), 1..50),
            small in proptest::collection::vec(-3_000_000_i64..3_000_000, 1..50),
            end in any::<i64>(),
            frame in any::<i64>(),
        ) {
            let (tick, output) = (Fraction::new(1, 90_000), Fraction::new(1, 24));
            for times in [times, small] {
                let mut timeline = Timeline::new(tick, frame);
                let mut sampler = FpsSampler::default();
                let most = LONGEST_GAP_S as usize * 24 + 1;
                for time in &times {
                    prop_assert!(sampler.push(rescale(timeline.place(*time), tick, output)) <= most);
                }
                prop_assert!(sampler.finish(rescale(timeline.end(end), tick, output)) <= most);
            }
        }
    }

    #[test]
    fn pauses_disorder_and_a_late_start_are_no_jumps() {
        let mut timeline = Timeline::new(Fraction::new(1, 25), 1);
        let times = [90_000, 90_001, 90_003, 90_002, 90_253, 90_254];
        assert_eq!(times.map(|time| timeline.place(time)), times);
        assert_eq!((timeline.end(90_255), timeline.jumps()), (90_255, 0));
        assert_eq!((timeline.end(99_999), timeline.jumps()), (90_255, 1));
    }

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
