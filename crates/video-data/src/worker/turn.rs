//! Turns pictures upright, as the `ffmpeg` command line does by default (`-autorotate`).
#![expect(unsafe_code, reason = "ffmpeg-next has neither display matrices nor pixel format descriptors")]

use std::ptr;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Error, ffi, frame};

use crate::open::{self, Look, Matrix};

/// How a picture is turned: first its columns and rows are reversed, then both change places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Turn {
    reverse_columns: bool,
    reverse_rows: bool,
    transpose: bool,
}

impl Turn {
    /// The turn that the command line derives from a display matrix, or the angle in degrees if it is not a
    /// quarter turn.
    pub(crate) fn of(matrix: &Matrix) -> Result<Self, i64> {
        // SAFETY: the function reads nine numbers, and `matrix` has nine.
        let angle = -unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) }.round();
        let angle = angle - 360.0 * (angle / 360.0 + 0.9 / 360.0).floor();
        let near = |quarter: f64| (angle - quarter).abs() < 1.0;
        let turn =
            |reverse_columns, reverse_rows, transpose| Self { reverse_columns, reverse_rows, transpose };
        Ok(if near(90.0) {
            turn(false, matrix[3] <= 0, true)
        } else if near(180.0) {
            turn(matrix[0] < 0, matrix[4] < 0, false)
        } else if near(270.0) {
            turn(true, matrix[3] < 0, true)
        } else if angle.abs() < 1.0 {
            turn(false, matrix[4] < 0, false)
        } else if angle.is_nan() {
            Self::default()
        } else {
            return Err(angle as i64);
        })
    }

    /// Whether pictures stay as they are.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Turns the pictures of one clip.
pub(crate) struct Turner {
    converter: Option<(Look, Pixel, scaling::Context)>,
    converted: frame::Video,
    turned: frame::Video,
}

impl Turner {
    pub(crate) fn new() -> Self {
        Self { converter: None, converted: frame::Video::empty(), turned: frame::Video::empty() }
    }

    /// `frame`, turned.
    pub(crate) fn turn(&mut self, frame: &frame::Video, turn: Turn) -> Result<&frame::Video, Error> {
        let format = nearest(frame.format(), turn);
        let Self { converter, converted, turned } = self;
        let frame =
            if format == frame.format() { frame } else { convert(converter, converted, frame, format)? };
        let (width, height) = (frame.width(), frame.height());
        let size = if turn.transpose { (height, width) } else { (width, height) };
        if turned.format() != format || (turned.width(), turned.height()) != size {
            *turned = frame::Video::new(format, size.0, size.1);
        }
        // SAFETY: both frames are borrowed, `turned` exclusively, so they are valid and distinct.
        unsafe { ffi::av_frame_copy_props(turned.as_mut_ptr(), frame.as_ptr()) };
        let bytes = pixel_bytes(format);
        for (plane, bytes) in bytes.into_iter().enumerate().take(frame.planes()) {
            turn_plane(frame, turned, plane, bytes, turn);
        }
        Ok(turned)
    }
}

fn convert<'a>(
    converter: &mut Option<(Look, Pixel, scaling::Context)>,
    converted: &'a mut frame::Video,
    frame: &frame::Video,
    format: Pixel,
) -> Result<&'a frame::Video, Error> {
    let look = Look::of(frame);
    let mut scaler = match converter.take() {
        Some((last, to, scaler)) if last == look && to == format => scaler,
        _ => {
            *converted = frame::Video::empty();
            open::scaler(look, format, look.width, look.height, scaling::Flags::BICUBIC)?
        }
    };
    scaler.run(frame, converted)?;
    // SAFETY: both frames are borrowed, `converted` exclusively, so they are valid and distinct.
    unsafe { ffi::av_frame_copy_props(converted.as_mut_ptr(), frame.as_ptr()) };
    *converter = Some((look, format, scaler));
    Ok(converted)
}

/// Bytes from one pixel to the next, in each plane.
fn pixel_bytes(format: Pixel) -> [usize; 4] {
    let mut steps = [0; 4];
    // SAFETY: the function writes four numbers, for which `steps` has room. The format of a decoded frame has a
    // descriptor, a constant.
    unsafe {
        ffi::av_image_fill_max_pixsteps(
            steps.as_mut_ptr(),
            ptr::null_mut(),
            ffi::av_pix_fmt_desc_get(format.into()),
        );
    }
    steps.map(|step| step as usize)
}

fn turn_plane(from: &frame::Video, to: &mut frame::Video, plane: usize, bytes: usize, turn: Turn) {
    let (width, height) = (to.plane_width(plane) as usize, to.plane_height(plane) as usize);
    let (from_stride, stride) = (from.stride(plane), to.stride(plane));
    let (columns, rows) = if turn.transpose { (height, width) } else { (width, height) };
    let source = from.data(plane);
    for (y, line) in to.data_mut(plane).chunks_mut(stride).take(height).enumerate() {
        for (x, pixel) in line.chunks_exact_mut(bytes).take(width).enumerate() {
            let (mut column, mut row) = if turn.transpose { (y, x) } else { (x, y) };
            if turn.reverse_columns {
                column = columns - 1 - column;
            }
            if turn.reverse_rows {
                row = rows - 1 - row;
            }
            let at = row * from_stride + column * bytes;
            pixel.copy_from_slice(&source[at..at + bytes]);
        }
    }
}

/// Whether the planes of this format can be turned one by one, as the filters `transpose` and `hflip` do.
fn takes(descriptor: &ffi::AVPixFmtDescriptor, turn: Turn) -> bool {
    let bars = ffi::AV_PIX_FMT_FLAG_PAL | ffi::AV_PIX_FMT_FLAG_HWACCEL | ffi::AV_PIX_FMT_FLAG_BITSTREAM;
    let is_square = descriptor.log2_chroma_w == descriptor.log2_chroma_h;
    let is_apart = descriptor.comp[0].plane != descriptor.comp[1].plane;
    descriptor.flags & bars as u64 == 0 && (is_square || !turn.transpose && is_apart)
}

/// `format`, or the one that `ffmpeg` converts to before it turns pictures.
fn nearest(format: Pixel, turn: Turn) -> Pixel {
    let wanted = format.into();
    let mut best = ffi::AVPixelFormat::AV_PIX_FMT_NONE;
    // SAFETY: the format of a decoded frame has a descriptor. Descriptors are constants in a list that null ends, so
    // references to them stay valid.
    unsafe {
        let own = &*ffi::av_pix_fmt_desc_get(wanted);
        if takes(own, turn) {
            return format;
        }
        let has_alpha = i32::from(own.nb_components.is_multiple_of(2));
        let mut descriptor = ffi::av_pix_fmt_desc_next(ptr::null());
        while let Some(known) = descriptor.as_ref() {
            if takes(known, turn) {
                let next = ffi::av_pix_fmt_desc_get_id(descriptor);
                best = ffi::av_find_best_pix_fmt_of_2(best, next, wanted, has_alpha, ptr::null_mut());
            }
            descriptor = ffi::av_pix_fmt_desc_next(descriptor);
        }
    }
    best.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_angles_than_quarters_are_named() {
        let one = 1 << 16;
        let half = one * 7071 / 10_000;
        assert_eq!(Turn::of(&[half, half, 0, -half, half, 0, 0, 0, 1 << 30]), Err(45));
        assert_eq!(Turn::of(&[0; 9]), Ok(Turn::default()));
        assert!(Turn::of(&[one, 0, 0, 0, one, 0, 0, 0, 1 << 30]).is_ok_and(Turn::is_none));
    }
}
