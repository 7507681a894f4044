//! What a rendered clip shows: bright balls on a mild texture, on a frame that wraps round.
//!
//! The class is the ball's path over time and nothing else. The start of every path is uniform over the
//! frame, and the frame wraps round, so at every instant the ball's position is uniform whatever the class:
//! no single frame reveals it. The background depends on the scene number alone; the ball's size and colour
//! are drawn per clip, independently of the class.

use rand::RngExt;

use super::random::stream;

/// A path of a ball; speeds in pixels a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Motion {
    /// Straight on, wrapping round; `turn` is the direction as a share of a full turn, 0 to the right and a
    /// quarter downwards.
    Straight {
        /// Direction.
        turn: f64,
        /// Speed.
        speed: f64,
    },
    /// Round in a circle.
    Circle {
        /// Radius in pixels.
        radius: f64,
        /// Speed; negative turns anticlockwise as seen on the screen.
        speed: f64,
    },
    /// To and fro along a line.
    Shuttle {
        /// Direction of the line.
        turn: f64,
        /// Speed.
        speed: f64,
    },
    /// At rest.
    Still,
}

/// Seconds in which a shuttle goes one way.
const SHUTTLE_S: f64 = 0.25;

impl Motion {
    /// Where the ball is after `t` seconds, relative to where it started, for a starting `phase` in `[0, 1)`.
    fn offset(self, t: f64, phase: f64) -> (f64, f64) {
        let along = |turn: f64, length: f64| {
            let (sin, cos) = (turn * std::f64::consts::TAU).sin_cos();
            (cos * length, sin * length)
        };
        match self {
            Self::Straight { turn, speed } => along(turn, speed * t),
            Self::Circle { radius, speed } => {
                along(phase + speed * t / (radius * std::f64::consts::TAU), radius)
            }
            Self::Shuttle { turn, speed } => {
                let place = (t / SHUTTLE_S + 2.0 * phase).rem_euclid(2.0);
                along(turn, speed * SHUTTLE_S * (1.0 - (place - 1.0).abs()))
            }
            Self::Still => (0.0, 0.0),
        }
    }
}

/// A ball of one clip.
#[derive(Debug, Clone, PartialEq)]
struct Ball {
    motion: Motion,
    start: (f64, f64),
    phase: f64,
    radius: f64,
    colour: [f64; 3],
}

/// One clip, ready to be drawn frame by frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    width: usize,
    height: usize,
    background: Vec<u8>,
    balls: Vec<Ball>,
}

impl Scene {
    /// Scene `number` of the sample `purpose`, with one ball per motion as clip `clip` starts them.
    pub fn new(
        seed: u64,
        purpose: &str,
        number: u32,
        clip: &str,
        motions: &[Motion],
        size: (usize, usize),
    ) -> Self {
        let (width, height) = size;
        let mut rng = stream(seed, &format!("{purpose}/clip/{clip}"));
        let mut ball = |motion| Ball {
            motion,
            start: (rng.random::<f64>() * width as f64, rng.random::<f64>() * height as f64),
            phase: rng.random(),
            radius: height as f64 * rng.random_range(0.14..0.17),
            colour: [
                rng.random_range(225.0..250.0),
                rng.random_range(225.0..250.0),
                rng.random_range(200.0..250.0),
            ],
        };
        let balls = motions.iter().map(|motion| ball(*motion)).collect();
        Self {
            width,
            height,
            background: background(seed, &format!("{purpose}/scene/{number}"), size),
            balls,
        }
    }

    /// The frame at `t` seconds, u8 RGB `[H, W, 3]`, written over `frame`.
    pub fn draw(&self, t: f64, frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend_from_slice(&self.background);
        for ball in &self.balls {
            self.draw_ball(ball, t, frame);
        }
    }

    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.background.len()
    }

    fn draw_ball(&self, ball: &Ball, t: f64, frame: &mut [u8]) {
        let (dx, dy) = ball.motion.offset(t, ball.phase);
        let (width, height) = (self.width as f64, self.height as f64);
        let (x, y) = ((ball.start.0 + dx).rem_euclid(width), (ball.start.1 + dy).rem_euclid(height));
        let reach = ball.radius.ceil() as i64 + 1;
        for row in -reach..=reach {
            let py = (y as i64 + row).rem_euclid(self.height as i64);
            let ry = wrapped(py as f64 + 0.5 - y, height);
            for column in -reach..=reach {
                let px = (x as i64 + column).rem_euclid(self.width as i64);
                let rx = wrapped(px as f64 + 0.5 - x, width);
                // A soft rim, one pixel and a half wide, keeps the encoder from ringing.
                let cover = ((ball.radius - rx.hypot(ry)) / 1.5 + 0.5).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let at = (py as usize * self.width + px as usize) * 3;
                    for (value, colour) in frame[at..at + 3].iter_mut().zip(ball.colour) {
                        *value = (f64::from(*value) + cover * (colour - f64::from(*value))).round() as u8;
                    }
                }
            }
        }
    }
}

/// The shortest way of length `d` on a ring of length `size`.
fn wrapped(d: f64, size: f64) -> f64 {
    (d + size / 2.0).rem_euclid(size) - size / 2.0
}

/// A muted colour, a slope, and three slow waves: the texture of one scene, u8 RGB `[H, W, 3]`.
fn background(seed: u64, purpose: &str, (width, height): (usize, usize)) -> Vec<u8> {
    let mut rng = stream(seed, purpose);
    let base: [f64; 3] = std::array::from_fn(|_| rng.random_range(55.0..105.0));
    let slope: [f64; 2] = std::array::from_fn(|_| rng.random_range(-12.0..12.0));
    let waves: [([f64; 3], [f64; 3]); 3] = std::array::from_fn(|_| {
        let wave = [rng.random_range(-4.0..4.0), rng.random_range(-4.0..4.0), rng.random::<f64>()];
        (wave, std::array::from_fn(|_| rng.random_range(-7.0..7.0)))
    });
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let v = y as f64 / height as f64;
        for x in 0..width {
            let u = x as f64 / width as f64;
            let tilt = slope[0] * (u - 0.5) + slope[1] * (v - 0.5);
            for channel in 0..3 {
                let wave: f64 =
                    waves.iter().map(|(w, a)| a[channel] * triangle(w[0] * u + w[1] * v + w[2])).sum();
                pixels.push((base[channel] + tilt + wave).clamp(16.0, 160.0).round() as u8);
            }
        }
    }
    pixels
}

/// A triangle wave of period 1 between -1 and 1: exact on every machine, which a sine is not.
fn triangle(x: f64) -> f64 {
    4.0 * (x.rem_euclid(1.0) - 0.5).abs() - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ball_wraps_round_the_frame() {
        let still = Scene::new(1, "t", 0, "a", &[Motion::Still], (64, 48));
        // One second at 64 pixels a second is once round.
        let moving = Scene::new(1, "t", 0, "a", &[Motion::Straight { turn: 0.0, speed: 64.0 }], (64, 48));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        still.draw(0.0, &mut a);
        moving.draw(1.0, &mut b);
        assert_eq!(a, b);
        moving.draw(0.5, &mut b);
        assert_ne!(a, b);
    }

    #[test]
    fn the_scene_depends_on_its_number_alone() {
        let one = Scene::new(1, "t", 7, "a", &[], (64, 48));
        let two = Scene::new(1, "t", 7, "b", &[], (64, 48));
        let other = Scene::new(1, "t", 8, "a", &[], (64, 48));
        assert_eq!(one.background, two.background);
        assert_ne!(one.background, other.background);
    }
}
