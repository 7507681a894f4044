//! Times of packets and frames, as the `ffmpeg` command line makes them.
//!
//! The command line counts in microseconds beside the clip's own ticks: it expects every packet where the one
//! before ended, and where a container's clock may jump it moves all that follows a jump to the expected time. A
//! frame without a time of its own gets the one that its packet was expected at.

use std::collections::VecDeque;

use ffmpeg_next::{Packet, frame};
use video_data::rate::{Fraction, Timeline, rescale};

pub(crate) const MICROSECOND: Fraction = Fraction::new(1, 1_000_000);
/// Distance from the expected time that counts as a jump: `-dts_delta_threshold`, in microseconds.
const JUMP_US: i64 = 10_000_000;
/// Step back that counts as a jump.
const STEP_BACK_US: i64 = 100_000;

/// What a clip says of its times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Length of a tick in seconds.
    pub(crate) tick: Fraction,
    /// Frames per second, where the clip says it.
    pub(crate) native: Option<Fraction>,
    /// Where the clip starts, in microseconds.
    pub(crate) start_us: i64,
    /// Bits of a time stamp, after which it starts again.
    pub(crate) wrap_bits: u32,
    /// Whether clocks of this container may jump.
    pub(crate) may_jump: bool,
    /// Frames that the decoder holds back to put them in order.
    pub(crate) delay: i64,
}

/// Times of one clip, from its start.
pub(crate) struct Clock {
    times: Times,
    /// Added to every time.
    offset_us: i64,
    /// Length of a frame where no packet says it.
    frame_us: Option<i64>,
    /// Decoding time of the packet that was sent last.
    dts: Option<i64>,
    next_dts: Option<i64>,
    /// Presentation time of the frame that came last, then its end.
    pts: i64,
    next_pts: i64,
    /// Decoding time that the packet before had of itself.
    last_dts: Option<i64>,
    wraps: bool,
    /// Expected times of frames that come while the decoder is drained.
    drained: VecDeque<i64>,
    line: Timeline,
    jumps: u64,
}

impl Clock {
    pub(crate) fn new(times: Times) -> Self {
        let frame = |unit| times.native.map(|native| rescale(1, Fraction::new(native.den, native.num), unit));
        let frame_us = frame(MICROSECOND);
        Self {
            offset_us: times.start_us.saturating_neg(),
            frame_us,
            dts: Some(frame_us.unwrap_or(0).saturating_mul(-times.delay)),
            next_dts: None,
            pts: 0,
            next_pts: 0,
            last_dts: None,
            wraps: times.wrap_bits < 63,
            drained: VecDeque::new(),
            line: Timeline::new(times.tick, frame(times.tick).unwrap_or(1)),
            jumps: 0,
            times,
        }
    }

    /// Moves a packet's times to where they belong, before it is sent to the decoder.
    pub(crate) fn packet(&mut self, packet: &mut Packet) {
        if self.wraps {
            self.unwrap(packet);
        }
        self.shift(packet, self.offset_us);
        if let Some(dts) = packet.dts().map(|dts| self.us(dts))
            && let Some(delta) = self.jump(dts)
        {
            self.jumps += 1;
            self.offset_us = self.offset_us.saturating_sub(delta);
            self.shift(packet, delta.saturating_neg());
        }
        let dts = packet.dts().map(|dts| self.us(dts));
        self.last_dts = dts.or(self.last_dts);
        self.next_dts = dts.or(self.next_dts).or(self.dts);
        self.expect();
        packet.set_dts(self.dts.map(|dts| self.ticks(dts)));
    }

    /// How far a packet that is to be decoded at `dts` is from where it is expected, if that is a jump.
    fn jump(&self, dts: i64) -> Option<i64> {
        // Nothing is expected of the first packet.
        let delta = dts.saturating_sub(self.next_dts.or(self.last_dts)?);
        let shown = self.dts.map_or(self.pts, |dts| dts.max(self.pts));
        let back = self.next_dts.is_some() && dts.saturating_add(STEP_BACK_US) < shown;
        (self.times.may_jump && (back || !(-JUMP_US..=JUMP_US).contains(&delta))).then_some(delta)
    }

    /// Undoes the overflow of a time stamp near the clip's start.
    fn unwrap(&mut self, packet: &mut Packet) {
        let (bits, start) = (self.times.wrap_bits, self.ticks(self.times.start_us));
        let late = |time: &i64| *time > start.saturating_add(1 << (bits - 1));
        self.wraps = packet.dts().is_some_and(|dts| late(&dts)) || packet.pts().is_some_and(|pts| late(&pts));
        let back = |time: i64| if late(&time) { time - (1 << bits) } else { time };
        packet.set_dts(packet.dts().map(back));
        packet.set_pts(packet.pts().map(back));
    }

    fn shift(&self, packet: &mut Packet, by_us: i64) {
        let by = self.ticks(by_us);
        packet.set_dts(packet.dts().map(|dts| dts.saturating_add(by)));
        packet.set_pts(packet.pts().map(|pts| pts.saturating_add(by)));
    }

    /// To be called before the decoder is asked again for the same packet.
    pub(crate) fn expect(&mut self) {
        (self.dts, self.pts) = (self.next_dts, self.next_pts);
    }

    /// To be called before the drained decoder is asked for a frame.
    pub(crate) fn drain(&mut self) {
        self.expect();
        self.drained.extend(self.dts.map(|dts| self.ticks(dts)));
    }

    /// To be called after the decoder was asked for a frame of `packet`, or drained. `frame_us` is the length
    /// of a frame as the decoder knows it.
    pub(crate) fn asked(&mut self, packet: Option<&Packet>, frame_us: Option<i64>) {
        self.frame_us = frame_us.or(self.frame_us);
        let duration = self.duration(packet);
        self.next_dts = self.dts.zip(duration).map(|(dts, duration)| dts.saturating_add(duration));
    }

    fn duration(&self, packet: Option<&Packet>) -> Option<i64> {
        let own = packet.map(Packet::duration).filter(|duration| *duration > 0);
        own.map(|duration| self.us(duration)).or(self.frame_us).filter(|duration| *duration > 0)
    }

    /// The time of a decoded frame in ticks, and whether it was the clip's own.
    pub(crate) fn stamp(&mut self, frame: &frame::Video, packet: Option<&Packet>) -> (i64, bool) {
        let own = frame.timestamp();
        let drained = if own.is_none() { self.drained.pop_front() } else { None };
        if let Some(time) = own.or(drained) {
            self.pts = self.us(time);
            self.next_pts = self.pts;
        }
        let time = own.or(drained).unwrap_or_else(|| self.ticks(self.next_pts));
        let stated = Some(frame.packet().duration).filter(|duration| *duration > 0);
        let duration = stated.map(|duration| self.us(duration)).or_else(|| self.duration(packet));
        self.next_pts = self.next_pts.saturating_add(duration.unwrap_or(0));
        (self.line.place(time), own.is_some())
    }

    /// `time` in frames of the output.
    pub(crate) fn output(&self, time: i64, fps: u32) -> i64 {
        rescale(time, self.times.tick, Fraction::new(1, i64::from(fps)))
    }

    /// End of the last frame.
    pub(crate) fn end(&mut self) -> i64 {
        let end = self.ticks(self.next_pts);
        self.line.end(end)
    }

    /// Jumps of time that were taken out.
    pub(crate) fn jumps(&self) -> u64 {
        self.jumps + self.line.jumps()
    }

    fn us(&self, ticks: i64) -> i64 {
        rescale(ticks, self.times.tick, MICROSECOND)
    }

    fn ticks(&self, us: i64) -> i64 {
        rescale(us, MICROSECOND, self.times.tick)
    }
}
