//! Pictures as training may see them: mirrored, or a part of them stretched back to their size.
//!
//! A clip has one [`View`] in an epoch, the same for all of its frames, so that what moves in it moves as before. Only bytes
//! are computed with, in whole numbers: a view of a frame is the same on every machine.
//!
//! # Paper
//! Krizhevsky, Sutskever and Hinton 2012, section 4.1, mirror pictures and train on 224² of 256² pixels: windows of 7/8.
//!
//! # Departs
//! From them: windows are stretched back, so that a model reads frames of one size in training and in evaluation.

use rand::{Rng, RngExt};

/// A window has so many eighths of either side.
const EIGHTHS: usize = 7;
/// Steps between two neighbouring pixels.
const STEPS: u32 = 256;
/// Numbers of a pixel.
const COLOURS: usize = 3;

/// What training may do to a clip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Augment {
    /// Whether left and right change places, in every second clip.
    pub mirror: bool,
    /// Whether a window of 7/8 of both sides, anywhere in the frame, is all that is seen.
    pub crop: bool,
}

/// How the frames of a clip are seen: a window of them, stretched to their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Pixels to the left of the window, and of each of its rows.
    pub across: (usize, usize),
    /// Rows above the window, and in it.
    pub down: (usize, usize),
    /// Whether left is right.
    pub mirrored: bool,
}

impl Augment {
    /// Whether clips stay as they are.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The view of a clip whose frames have so many pixels across and down.
    ///
    /// Draws are the same whatever is asked for: a clip that `mirror` mirrors is also mirrored by both together.
    pub fn view(self, (width, height): (usize, usize), rng: &mut impl Rng) -> View {
        let mirrored = rng.random::<bool>();
        let mut window = |side: usize| {
            let seen = (side * EIGHTHS / 8).max(1);
            let first = rng.random_range(0..=side - seen);
            if self.crop { (first, seen) } else { (0, side) }
        };
        View { across: window(width), down: window(height), mirrored: self.mirror && mirrored }
    }
}

/// Where a number of the stretched side lies between two of the window: both, and steps from the first to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Between {
    pair: [usize; 2],
    steps: u32,
}

/// The places of `side` numbers at even distances over a window, pixel by pixel where it is the whole side.
fn places((first, seen): (usize, usize), side: usize) -> impl DoubleEndedIterator<Item = Between> {
    (0..side).map(move |at| {
        // The middle of number `at` is (2 at + 1) / (2 side) of the way, which half a pixel more than its place is.
        let doubled = (2 * at + 1) * seen;
        let steps = ((doubled * STEPS as usize + side) / (2 * side)).saturating_sub(STEPS as usize / 2);
        let place = (steps / STEPS as usize).min(seen - 1);
        let pair = [first + place, first + (place + 1).min(seen - 1)];
        Between { pair, steps: (steps % STEPS as usize) as u32 }
    })
}

/// A view made ready for frames of one size.
#[derive(Debug)]
pub(crate) struct Lens {
    width: usize,
    rows: Vec<Between>,
    /// Of every pixel of a row, in the order in which they are seen.
    columns: Vec<Between>,
    /// A row between two: [`STEPS`] times its numbers.
    row: Vec<u16>,
    frame: Vec<u8>,
}

impl Lens {
    pub(crate) fn new(view: View, (width, height): (usize, usize)) -> Self {
        let mut columns: Vec<Between> = places(view.across, width).collect();
        if view.mirrored {
            columns.reverse();
        }
        let rows = places(view.down, height).collect();
        let frame = vec![0; COLOURS * width * height];
        Self { width, rows, columns, row: vec![0; COLOURS * width], frame }
    }

    /// The view of a frame, `[H, W, 3]`.
    pub(crate) fn see(&mut self, frame: &[u8]) -> &[u8] {
        let row = COLOURS * self.width;
        for (out, between) in self.frame.chunks_exact_mut(row).zip(&self.rows) {
            let [upper, lower] = between.pair.map(|at| &frame[at * row..][..row]);
            let [near, far] = [(STEPS - between.steps) as u16, between.steps as u16];
            for ((mixed, upper), lower) in self.row.iter_mut().zip(upper).zip(lower) {
                *mixed = near * u16::from(*upper) + far * u16::from(*lower);
            }
            let pixels = self.row.as_chunks::<COLOURS>().0;
            for (out, Between { pair, steps }) in
                out.as_chunks_mut::<COLOURS>().0.iter_mut().zip(&self.columns)
            {
                let [left, right] = pair.map(|at| pixels[at]);
                *out = std::array::from_fn(|colour: usize| {
                    let [left, right] = [left, right].map(|pixel: [u16; COLOURS]| u32::from(pixel[colour]));
                    let sum = (STEPS - steps) * left + steps * right;
                    ((sum + STEPS * STEPS / 2) / (STEPS * STEPS)) as u8
                });
            }
        }
        &self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn frame((width, height): (usize, usize), seed: u64) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..COLOURS * width * height).map(|_| rng.random()).collect()
    }

    fn seen(view: View, size: (usize, usize), frame: &[u8]) -> Vec<u8> {
        Lens::new(view, size).see(frame).to_vec()
    }

    fn whole((width, height): (usize, usize), mirrored: bool) -> View {
        View { across: (0, width), down: (0, height), mirrored }
    }

    /// Bilinear interpolation between the middles of pixels, by its definition.
    fn reference(view: View, (width, height): (usize, usize), frame: &[u8]) -> Vec<f64> {
        let place = |at: usize, (first, seen): (usize, usize), side: usize| {
            let place = (at as f64 + 0.5) * seen as f64 / side as f64 - 0.5;
            first as f64 + place.clamp(0.0, (seen - 1) as f64)
        };
        let mut all = Vec::new();
        for (y, x, colour) in (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| (0..COLOURS).map(move |colour| (y, x, colour))))
        {
            let x = if view.mirrored { width - 1 - x } else { x };
            let (down, across) = (place(y, view.down, height), place(x, view.across, width));
            let pixel = |row: f64, column: f64| {
                f64::from(frame[(row as usize * width + column as usize) * COLOURS + colour])
            };
            let of_row = |row: f64| {
                let part = across.fract();
                (1.0 - part) * pixel(row, across.floor()) + part * pixel(row, across.ceil())
            };
            let part = down.fract();
            all.push((1.0 - part) * of_row(down.floor()) + part * of_row(down.ceil()));
        }
        all
    }

    #[test]
    fn a_mirrored_frame_has_its_pixels_in_the_other_order_and_mirrored_twice_its_own() {
        let frame: Vec<u8> = (0..2 * 3 * 3).collect();
        let once = seen(whole((3, 2), true), (3, 2), &frame);
        assert_eq!(once, [6, 7, 8, 3, 4, 5, 0, 1, 2, 15, 16, 17, 12, 13, 14, 9, 10, 11]);
        assert_eq!(seen(whole((3, 2), true), (3, 2), &once), frame);
    }

    proptest! {
        #[test]
        fn views_of_whole_frames_lose_nothing(width in 1usize..40, height in 1usize..9, seed: u64) {
            let size = (width, height);
            let frame = frame(size, seed);
            prop_assert_eq!(&seen(whole(size, false), size, &frame), &frame);
            let mirrored = seen(whole(size, true), size, &frame);
            prop_assert_eq!(&seen(whole(size, true), size, &mirrored), &frame);
        }

        #[test]
        fn windows_are_stretched_by_interpolation(width in 1usize..40, height in 1usize..40, seed: u64) {
            let size = (width, height);
            let augment = Augment { mirror: true, crop: true };
            let view = augment.view(size, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(view.across.0 + view.across.1 <= width && view.down.0 + view.down.1 <= height);
            let frame = frame(size, seed);
            for (found, expected) in seen(view, size, &frame).iter().zip(reference(view, size, &frame)) {
                // Half from rounding, and places that are off by half a step of 256 across and down.
                prop_assert!((f64::from(*found) - expected).abs() <= 0.5 + 255.0 / 256.0 + 1e-9);
            }
        }
    }

    #[test]
    fn every_second_clip_is_mirrored_and_windows_lie_everywhere() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let both = Augment { mirror: true, crop: true };
        let views: Vec<View> = (0..2000).map(|_| both.view((160, 120), &mut rng)).collect();
        // 1,000 expected, with a deviation of 22.
        assert!((900..1100).contains(&views.iter().filter(|view| view.mirrored).count()));
        assert!(views.iter().all(|view| (view.across.1, view.down.1) == (140, 105)));
        let of = |first: fn(&View) -> usize| {
            let mut places: Vec<usize> = views.iter().map(first).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        assert_eq!(of(|view| view.across.0), (0..=20).collect::<Vec<_>>());
        assert_eq!(of(|view| view.down.0), (0..=15).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_asked_for_is_not_done_and_changes_no_draw() {
        for seed in 0..20 {
            let of = |mirror, crop| {
                Augment { mirror, crop }.view((160, 120), &mut ChaCha8Rng::seed_from_u64(seed))
            };
            let both = of(true, true);
            assert_eq!(of(false, true), View { mirrored: false, ..both });
            assert_eq!(of(true, false), whole((160, 120), both.mirrored));
            assert_eq!(of(false, false), whole((160, 120), false));
        }
        assert!(Augment::default().is_none() && !Augment { mirror: true, crop: false }.is_none());
    }
}
