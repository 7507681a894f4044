//! Batches on a device: from its own memory if all frames fit and stay as they are, otherwise read ahead, and copied where
//! the device's memory is not the CPU's, or the model cannot read them where they are stored. Pictures that training sees
//! otherwise than stored are computed as they are read ahead, and those of an evaluation come as ever.

use super::open::Opened;
use crate::data::{Clips, FramePick};
use anyhow::Result;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tt_rnn::frames::StoredRows;
use tt_rnn::models::PackedFrames;
use video_data::batch::{Batch, BatchLoader, Form, Pick, Spare, Standard, Values};

/// The frames of some clips, and how they get to the device.
#[derive(Debug)]
pub struct Feed<'a> {
    clips: &'a Clips,
    device: Device,
    /// u8 `[T, M]` by clip, if all of them stay on the device.
    resident: Option<HashMap<usize, Tensor>>,
    spare: Spare,
    form: Form,
    #[cfg(feature = "cuda")]
    uploader: std::cell::RefCell<Option<super::cuda::Uploader>>,
}

/// Batches of one pass in order.
#[derive(Debug)]
pub struct Pass<'a> {
    feed: &'a Feed<'a>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Resident(std::vec::IntoIter<Vec<Pick>>),
    /// Read ahead, and by reference.
    Stored(BatchLoader),
    /// Read ahead into memory that the tensors of the CPU take over; the last batch, whose frames the model has.
    Lent(BatchLoader, Option<(Tensor, Batch)>),
    /// Read ahead and copied; the batch on its way.
    Copied(BatchLoader, Option<Ready>),
}

#[derive(Debug)]
struct Ready {
    frames: PackedFrames,
    clips: Vec<usize>,
}

/// Takes the memory out of a tensor, which must not be used after it.
struct TakeBack(Cell<Values>);

impl InplaceOp1 for TakeBack {
    fn name(&self) -> &'static str {
        "take-back"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        match storage {
            CpuStorage::U8(bytes) => self.0.set(Values::Bytes(std::mem::take(bytes))),
            CpuStorage::F32(floats) => self.0.set(Values::Floats(std::mem::take(floats))),
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Feed<'a> {
    /// A feed of the clips in `wanted`, whose frames, standardized where that is asked for, are copied to the device once
    /// if they fit and no epoch sees them otherwise. With `reads_stored` the model takes bytes where they lie.
    ///
    /// # Errors
    /// A failed copy.
    pub fn new(
        clips: &'a Clips,
        wanted: &[&[usize]],
        opened: &Opened,
        standard: Option<Standard>,
        reads_stored: bool,
    ) -> Result<Self> {
        let bytes: u64 =
            wanted.iter().copied().flatten().map(|clip| clips.frames_of(*clip).len() as u64).sum();
        // Bytes become floats.
        let bytes = if standard.is_some() && clips.are_bytes() { 4 * bytes } else { bytes };
        let fits = bytes <= opened.room_for_frames() && !clips.is_augmented();
        // The model reads them in the store, or a card's uploader does.
        let stays =
            !fits && clips.are_bytes() && (opened.device.is_cuda() || opened.device.is_cpu() && reads_stored);
        let form = match standard {
            Some(standard) => Form::Standardized(Arc::new(standard)),
            None if stays => Form::Stored,
            None => Form::Numbers,
        };
        let resident = if fits {
            #[cfg(feature = "cuda")]
            opened.use_one_stream();
            Some(upload(clips, wanted, &opened.device, &form)?)
        } else {
            None
        };
        Ok(Self {
            clips,
            device: opened.device.clone(),
            spare: Spare::default(),
            form,
            #[cfg(feature = "cuda")]
            uploader: std::cell::RefCell::new(if resident.is_none() { opened.uploader()? } else { None }),
            resident,
        })
    }

    /// Whether all frames are on a card.
    pub fn is_resident(&self) -> bool {
        self.resident.is_some()
    }

    /// The batches of these clips in this order.
    pub fn pass(&self, order: &[usize], pick: &FramePick<'_>) -> Pass<'_> {
        let form = match &self.form {
            // Views lie in no store.
            Form::Stored if pick.drawn.is_some() && self.clips.is_augmented() => Form::Numbers,
            form => form.clone(),
        };
        let is_stored = matches!(form, Form::Stored);
        // Batches that hold no frames are to take no memory from those that do.
        let spare = if is_stored { Spare::default() } else { self.spare.clone() };
        let batches = || self.clips.batches(order, pick, spare.clone(), form.clone());
        let source = if self.resident.is_some() {
            Source::Resident(self.clips.picks(order, pick).into_iter())
        } else if !self.device.is_cpu() {
            Source::Copied(batches(), None)
        } else if is_stored {
            Source::Stored(batches())
        } else {
            Source::Lent(batches(), None)
        };
        Pass { feed: self, source }
    }

    /// Sends a batch to a card; except on CUDA, the copy is complete when this returns.
    fn send(&self, batch: &Batch) -> Result<Ready> {
        let features = self.clips.features();
        let rows: usize = batch.lengths.iter().sum();
        let (lengths, clips) = (batch.lengths.clone(), batch.clips.clone());
        #[cfg(feature = "cuda")]
        if let (Some(uploader), false) = (self.uploader.borrow_mut().as_mut(), batch.starts.is_empty()) {
            let rows = uploader.upload((*self.clips.memory()).as_ref(), &batch.starts, features)?;
            return Ok(Ready { frames: PackedFrames::new(rows, lengths), clips });
        }
        let shape = (rows, features);
        let rows = match &batch.frames {
            Values::Bytes(bytes) => Tensor::from_slice(bytes, shape, &self.device)?,
            Values::Floats(floats) => Tensor::from_slice(floats, shape, &self.device)?,
        };
        Ok(Ready { frames: PackedFrames::new(rows, lengths), clips })
    }
}

impl Pass<'_> {
    /// The next batch and its clips; none at the end. On the CPU, the batch before must not be used any more: its
    /// memory goes into another.
    ///
    /// # Errors
    /// A failed copy.
    pub fn next(&mut self) -> Result<Option<(PackedFrames, Vec<usize>)>> {
        match &mut self.source {
            Source::Resident(picks) => {
                let (Some(picks), Some(resident)) = (picks.next(), &self.feed.resident) else {
                    return Ok(None);
                };
                let parts: Vec<_> =
                    picks.iter().map(|pick| (&resident[&pick.clip], &pick.frames[..])).collect();
                let rows = gathered(&parts)?; // [sum T_b, M]
                let lengths = picks.iter().map(|pick| pick.frames.len()).collect();
                let clips = picks.iter().map(|pick| pick.clip).collect();
                Ok(Some((PackedFrames::new(rows, lengths), clips)))
            }
            Source::Stored(loader) => {
                let Some(batch) = loader.next() else { return Ok(None) };
                let Batch { starts, lengths, clips, .. } = batch;
                let rows = StoredRows::new(self.feed.clips.memory(), starts, self.feed.clips.features())?;
                Ok(Some((PackedFrames::new(rows, lengths), clips)))
            }
            Source::Lent(loader, lent) => {
                if let Some((rows, mut batch)) = lent.take() {
                    let back = TakeBack(Cell::default());
                    rows.inplace_op1(&back)?;
                    batch.frames = back.0.into_inner();
                    self.feed.spare.give(batch);
                }
                let Some(mut batch) = loader.next() else { return Ok(None) };
                let (lengths, clips) = (batch.lengths.clone(), batch.clips.clone());
                let shape = (lengths.iter().sum::<usize>(), self.feed.clips.features());
                let rows = tensor(std::mem::take(&mut batch.frames), shape, &self.feed.device)?;
                *lent = Some((rows.clone(), batch));
                Ok(Some((PackedFrames::new(rows, lengths), clips)))
            }
            Source::Copied(loader, ready) => {
                let now = match ready.take() {
                    Some(now) => Some(now),
                    None => read(loader, self.feed)?,
                };
                Ok(now.map(|now| (now.frames, now.clips)))
            }
        }
    }

    /// Sends the next batch to a card while the one before is computed; to be called when that has been started.
    ///
    /// # Errors
    /// A failed copy.
    pub fn prefetch(&mut self) -> Result<()> {
        if let Source::Copied(loader, ready @ None) = &mut self.source {
            *ready = read(loader, self.feed)?;
        }
        Ok(())
    }

    /// Time spent waiting for frames so far.
    pub fn waited(&self) -> Duration {
        match &self.source {
            Source::Resident(_) => Duration::ZERO,
            Source::Stored(loader) | Source::Lent(loader, _) | Source::Copied(loader, _) => loader.waited(),
        }
    }
}

fn tensor(values: Values, shape: (usize, usize), device: &Device) -> candle_core::Result<Tensor> {
    match values {
        Values::Bytes(bytes) => Tensor::from_vec(bytes, shape, device),
        Values::Floats(floats) => Tensor::from_vec(floats, shape, device),
    }
}

fn upload(
    clips: &Clips,
    wanted: &[&[usize]],
    device: &Device,
    form: &Form,
) -> Result<HashMap<usize, Tensor>> {
    let one = |clip: &usize| -> Result<(usize, Tensor)> {
        let (frames, values) = clips.values(*clip, form);
        Ok((*clip, tensor(values, (frames, clips.features()), device)?))
    };
    wanted.iter().copied().flatten().map(one).collect()
}

/// The next batch on its way to a card; none at the end.
fn read(loader: &mut BatchLoader, feed: &Feed<'_>) -> Result<Option<Ready>> {
    let Some(batch) = loader.next() else { return Ok(None) };
    let ready = feed.send(&batch)?;
    feed.spare.give(batch);
    Ok(Some(ready))
}

/// The picked frames of all clips, one after the other, `[sum T_b, M]`.
pub(crate) fn gathered(parts: &[(&Tensor, &[u32])]) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(rows) = super::cuda::gather(parts)? {
        return Ok(rows);
    }
    let parts = parts.iter().map(|(clip, frames)| picked(clip, frames)).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, 0)?)
}

/// The picked frames of a clip, `[T_b, M]`; neighbours are not copied.
fn picked(clip: &Tensor, frames: &[u32]) -> Result<Tensor> {
    Ok(match frames {
        [first, ..] if frames.is_sorted_by(|frame, next| frame + 1 == *next) => {
            clip.narrow(0, *first as usize, frames.len())?
        }
        _ => clip.index_select(&Tensor::new(frames, clip.device())?, 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_on_the_device_are_those_that_a_batch_would_hold() {
        let clip = Tensor::from_vec((0..14_u8).collect::<Vec<_>>(), (7, 2), &Device::Cpu).unwrap();
        let all: Vec<u32> = (0..7).collect();
        for list in [&all[..], &[0, 1, 2], &[3, 4, 5], &[0, 3, 6], &[6], &[5, 4], &[1, 1, 5]] {
            let rows = picked(&clip, list).unwrap().to_vec2::<u8>().unwrap();
            assert_eq!(rows.iter().map(|row| u32::from(row[0] / 2)).collect::<Vec<_>>(), list);
        }
    }
}
