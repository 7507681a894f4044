//! NVIDIA cards: memory, energy, and batches copied while others are computed.
#![expect(
    unsafe_code,
    reason = "pinned memory begins unset, streams are ordered by hand, and the memory pool is asked through the driver's calls"
)]

use super::rows;
use anyhow::{Context, Result, bail, ensure};
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaStream, DevicePtr as _, PinnedHostSlice, PushKernelArg as _, sys,
};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Storage, Tensor};
use nvml_wrapper::Nvml;
use std::fmt;
use std::sync::Arc;
use tt_core::cuda::launch::{Kernel, multiprocessors, view};

/// Share of the free memory that frames may take: the rest is for the model, its activations and one batch.
const FRAMES_SHARE: f64 = 0.7;

/// Bytes of one copy to a card: the first is on its way while the next is put into pinned memory, and what is small, such as
/// labels, need not wait behind a whole batch.
const PIECE: usize = 8 << 20;

/// Picked frames of clips on a card, u8 `[T, M]` each, one after the other, by one kernel; none where they are not bytes or
/// on no card.
pub(super) fn gather(parts: &[(&Tensor, &[u32])]) -> Result<Option<Tensor>> {
    let Some((first, _)) = parts.first() else { return Ok(None) };
    let Device::Cuda(device) = first.device() else { return Ok(None) };
    if first.dtype() != DType::U8 {
        return Ok(None);
    }
    let (width, stream) = (first.dim(1)?, device.cuda_stream());
    let clips: Vec<_> = parts.iter().map(|(clip, _)| clip.storage_and_layout()).collect();
    let views = clips.iter().map(view::<u8>).collect::<candle_core::Result<Vec<_>>>()?;
    let places: Vec<_> = views.iter().map(|view| view.device_ptr(&stream)).collect();
    let base = places.iter().map(|(place, _)| *place).min().unwrap_or_default();
    let mut offsets = Vec::new();
    for ((clip, frames), (place, _)) in parts.iter().zip(&places) {
        ensure!(clip.dim(1)? == width, "clips of frames of {} and of {width} bytes", clip.dim(1)?);
        let word = rows::word(width) as u64;
        ensure!(
            place.is_multiple_of(word),
            "a clip begins at no multiple of {word} bytes of the card's memory"
        );
        for frame in *frames {
            ensure!((*frame as usize) < clip.dim(0)?, "frame {frame} of a clip of {}", clip.dim(0)?);
            offsets.push((place - base) as i64 + i64::from(*frame) * width as i64);
        }
    }
    let count = offsets.len();
    let table = Tensor::from_vec(offsets, count, first.device())?;
    let table = table.storage_and_layout();
    let (table, rows) = (view::<i64>(&table)?, i32::try_from(count)?);
    // SAFETY: written whole by the kernel.
    let mut to = unsafe { device.alloc::<u8>(count * width)? };
    let kernel = Kernel::load(device, &rows::source(width), &rows::launch(count, multiprocessors(device)?))?;
    let mut arguments = kernel.arguments();
    arguments.arg(&base).arg(&table).arg(&mut to).arg(&rows);
    // SAFETY: the arguments are those of `gather_rows`; every row lies in a clip, as checked above.
    unsafe { kernel.launch(&mut arguments)? };
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(to, device.clone()));
    let op = candle_core::op::BackpropOp::none();
    Ok(Some(Tensor::from_storage(storage, (count, width), op, false)))
}

/// An open card.
pub(super) struct Card {
    device: CudaDevice,
    context: Arc<CudaContext>,
    name: String,
    meter: Option<Meter>,
}

/// The card's own count of its energy.
struct Meter {
    nvml: Nvml,
    uuid: String,
    start_mj: u64,
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Card {
    /// Opens the card with this number.
    pub(super) fn open(number: usize) -> Result<(Device, Self)> {
        let device = Device::new_cuda(number).with_context(|| {
            let found =
                CudaContext::device_count().map_or_else(|_| "no card".into(), |n| format!("{n} cards"));
            format!("cuda:{number} cannot be opened; the driver finds {found}; --device cpu needs none")
        })?;
        let cuda = device.as_cuda_device()?.clone();
        let context = Arc::clone(cuda.cuda_stream().context());
        let name = context.name()?;
        let (major, minor) = context.compute_capability()?;
        if major < 8 {
            bail!(
                "cuda:{number}, {name}, has compute capability {major}.{minor}, and 8.0 is the least that is supported"
            );
        }
        // A card without a meter, or a machine without NVML, leaves the column empty.
        let meter = Meter::start(&context).ok();
        let card = Self { device: cuda, context, name, meter };
        card.keep_memory();
        Ok((device, card))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn room_for_frames(&self) -> u64 {
        let free = self.context.mem_get_info().map_or(0, |(free, _)| free as u64);
        let of_pool = |attribute| self.pool_attribute(attribute).unwrap_or(0);
        let reserved = of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
        let used = of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
        ((free + reserved.saturating_sub(used)) as f64 * FRAMES_SHARE) as u64
    }

    /// High water mark of the pool that all of candle's tensors come from.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.pool_attribute(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
    }

    fn pool(&self) -> Option<sys::CUmemoryPool> {
        if !self.context.has_async_alloc() {
            return None;
        }
        let mut pool = std::ptr::null_mut();
        // SAFETY: the call writes one handle to the pointer given, and the context of this card is alive.
        let found = unsafe { sys::cuDeviceGetMemPool(&raw mut pool, self.context.cu_device()).result() };
        found.ok().map(|()| pool)
    }

    fn pool_attribute(&self, attribute: sys::CUmemPool_attribute) -> Option<u64> {
        let (pool, mut bytes) = (self.pool()?, 0_u64);
        // SAFETY: the attributes asked for are 64-bit counts, which the call writes to the pointer given.
        let found = unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()).result() };
        found.ok().map(|()| bytes)
    }

    /// Keeps freed memory in the pool for the next step, instead of returning it to the system whenever the
    /// host waits for the card.
    fn keep_memory(&self) {
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        if let Some(pool) = self.pool() {
            let mut threshold = u64::MAX;
            // SAFETY: this attribute is a 64-bit count, which the call reads from the pointer given. A refusal costs
            // time alone.
            let _ = unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()) };
        }
    }

    pub(super) fn energy_j(&self) -> Option<f64> {
        let meter = self.meter.as_ref()?;
        Some((meter.now_mj().ok()?.saturating_sub(meter.start_mj)) as f64 / 1e3)
    }

    /// Spares the two events that every tensor is made with: they order streams, and there is one.
    pub(super) fn use_one_stream(&self) {
        // SAFETY: all work is on candle's stream until `uploader` makes another, which turns the events on first.
        unsafe { self.context.disable_event_tracking() };
    }

    pub(super) fn uploader(&self) -> Result<Uploader> {
        // SAFETY: what was made without events is used on candle's stream alone.
        unsafe { self.context.enable_event_tracking() };
        let stream = self.context.new_stream()?;
        Ok(Uploader { device: self.device.clone(), stream, slots: [None, None], next: 0 })
    }
}

impl Meter {
    fn start(context: &CudaContext) -> Result<Self> {
        let bytes = context.uuid()?.bytes.map(|byte| byte as u8);
        let uuid = bytes.iter().enumerate().fold("GPU-".to_owned(), |text, (at, byte)| {
            let dash = if [4, 6, 8, 10].contains(&at) { "-" } else { "" };
            text + dash + &format!("{byte:02x}")
        });
        let mut meter = Self { nvml: Nvml::init()?, uuid, start_mj: 0 };
        meter.start_mj = meter.now_mj()?;
        Ok(meter)
    }

    fn now_mj(&self) -> Result<u64> {
        Ok(self.nvml.device_by_uuid(self.uuid.as_str())?.total_energy_consumption()?)
    }
}

/// Copies batches from the memory of a store to the card, through two buffers of pinned memory and a stream of its own:
/// while one batch is computed, the next is on its way.
pub(super) struct Uploader {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    slots: [Option<Slot>; 2],
    next: usize,
}

struct Slot {
    buffer: PinnedHostSlice<u8>,
    /// Reached when the buffer may be written again.
    sent: Option<CudaEvent>,
}

impl fmt::Debug for Uploader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploader").finish_non_exhaustive()
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        // The buffers go with it, and copies may still read them. Where the card is lost there is nothing to wait for.
        let _ = self.stream.synchronize();
    }
}

impl Uploader {
    /// Starts the copy of the frames of `features` bytes that begin at `starts`, to u8 `[n, features]`. What is computed from the
    /// tensor waits for it on the card.
    pub(super) fn upload(&mut self, memory: &[u8], starts: &[usize], features: usize) -> Result<Tensor> {
        let place = &mut self.slots[self.next];
        self.next = 1 - self.next;
        if let Some(sent) = place.as_ref().and_then(|slot| slot.sent.as_ref()) {
            sent.synchronize()?;
        }
        let bytes = starts.len() * features;
        if place.as_ref().is_none_or(|slot| slot.buffer.len() < bytes) {
            // Allocate a little more: the first batch of an epoch is seldom the longest.
            let rows = starts.len().next_multiple_of(256);
            // SAFETY: bytes may be anything, and what is sent below is written first.
            let buffer = unsafe { self.stream.context().alloc_pinned(rows * features)? };
            *place = Some(Slot { buffer, sent: None });
        }
        let slot = place.as_mut().context("a pinned buffer")?;
        // Memory of this stream: on candle's, the copy would wait for the step that is being computed.
        // SAFETY: written whole by the copies that follow.
        let mut there = unsafe { self.stream.alloc::<u8>(bytes)? };
        let each = PIECE.div_ceil(features);
        for (part, starts) in starts.chunks(each).enumerate() {
            let first = part * each * features;
            let place = first..first + starts.len() * features;
            rows::copy(memory, starts, &mut slot.buffer.as_mut_slice()?[place.clone()]);
            self.stream.memcpy_htod(&slot.buffer.as_slice()?[place.clone()], &mut there.slice_mut(place))?;
        }
        slot.sent = Some(self.stream.record_event(None)?);
        // candle takes memory to be of its own stream, and orders what it does with it by nothing else: there it is copied once
        // more, when the step is done.
        let there = self.device.cuda_stream().clone_dtod(&there)?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(there, self.device.clone()));
        let op = candle_core::op::BackpropOp::none();
        Ok(Tensor::from_storage(storage, (starts.len(), features), op, false))
    }
}
