//! Compiles kernels for the device at hand and launches them on candle's stream.
#![expect(unsafe_code, reason = "NVRTC's binaries and kernel launches have no safe interface")]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::{
    CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_PORTABLE, CUdevice_attribute, CUfunction_attribute,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, CudaView, LaunchArgs, LaunchConfig,
    result as driver,
};
use candle_core::cuda_backend::cudarc::nvrtc::{Ptx, result, sys};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, DeviceId, WrapErr as _};
use candle_core::op::BackpropOp;
use candle_core::{Error, Layout, Result, Shape, Storage, Tensor, bail};

use super::{Launch, Source, Stall, architecture};

/// What was compiled.
type Modules = HashMap<(DeviceId, Source), Arc<CudaModule>>;
/// Kernels that were loaded, with the bytes of shared memory that they may have.
type Functions = HashMap<(DeviceId, Source, &'static str), (CudaFunction, usize)>;

/// Kernels that may wait in vain, and a word each in memory of the host that every card can write.
#[derive(Default)]
struct Reports {
    words: &'static [AtomicU64],
    kernels: Vec<&'static str>,
}

/// Words that are kept for reports: more than there are kernels that wait.
const REPORTS: usize = 64;

static REPORTED: LazyLock<Mutex<Reports>> = LazyLock::new(Mutex::default);
static MODULES: LazyLock<Mutex<Modules>> = LazyLock::new(Mutex::default);
static FUNCTIONS: LazyLock<Mutex<Functions>> = LazyLock::new(Mutex::default);

/// A kernel that is ready to be launched, and the stream that it runs on.
#[derive(Debug)]
pub struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
    launch: Launch,
}

impl Kernel {
    /// Compiles the source unless that was done before on this device, and allows the kernel its shared memory.
    ///
    /// # Errors
    /// NVRTC's log if it does not compile; the driver's error.
    pub fn load(device: &CudaDevice, source: &Source, launch: &Launch) -> Result<Self> {
        let key = (device.id(), source.clone(), launch.kernel);
        let mut functions = FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = device.cuda_stream();
        let (function, shared) = match functions.get(&key) {
            Some((function, shared)) => (function.clone(), *shared),
            None => (module(device.id(), stream.context(), source)?.load_function(launch.kernel).w()?, 0),
        };
        // More than 48 KiB must be asked for.
        let needed = shared.max(launch.shared_bytes);
        if needed > shared && needed > 48 << 10 {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, needed as i32).w()?;
        }
        functions.insert(key, (function.clone(), needed));
        Ok(Self { function, stream, launch: *launch })
    }

    /// Takes the kernel's arguments, one by one.
    pub fn arguments(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }

    /// The address of the word in which this kernel says where it gave up; [`stalled`] reads it.
    ///
    /// # Errors
    /// The driver's error.
    pub fn report(&self) -> Result<u64> {
        let mut reports = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.words.is_empty() {
            self.stream.context().bind_to_thread().w()?;
            let flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
            // SAFETY: the memory is never freed, and is zero before anything reads it; only atomic words see it.
            reports.words = unsafe {
                let words = driver::malloc_host(REPORTS * size_of::<u64>(), flags).w()?;
                words.write_bytes(0, REPORTS * size_of::<u64>());
                std::slice::from_raw_parts(words.cast(), REPORTS)
            };
        }
        let name = self.launch.kernel;
        let at = reports.kernels.iter().position(|kernel| *kernel == name).unwrap_or(reports.kernels.len());
        if at == reports.kernels.len() {
            reports.kernels.push(name);
        }
        match reports.words.get(at) {
            Some(word) => Ok(word.as_ptr() as u64),
            None => bail!("{name}: more kernels that wait than words for their reports"),
        }
    }

    /// Clusters of a kernel compiled for them that can run at the same time.
    ///
    /// # Errors
    /// The driver's error.
    pub fn clusters(&self) -> Result<usize> {
        Ok(self.function.occupancy_max_active_clusters(self.config(), &self.stream).w()? as usize)
    }

    fn config(&self) -> LaunchConfig {
        let [grid_dim, block_dim] =
            [self.launch.grid, self.launch.block].map(|[x, y, z]| (x as u32, y as u32, z as u32));
        LaunchConfig { grid_dim, block_dim, shared_mem_bytes: self.launch.shared_bytes as u32 }
    }

    /// Starts the kernel.
    ///
    /// # Safety
    /// The arguments must be what the kernel takes, and its buffers large enough.
    ///
    /// # Errors
    /// The driver's error.
    pub unsafe fn launch(&self, arguments: &mut LaunchArgs<'_>) -> Result<()> {
        let config = self.config();
        // SAFETY: the caller's promise.
        unsafe {
            if self.launch.cooperative {
                arguments.launch_cooperative(config).w()?;
            } else {
                arguments.launch(config).w()?;
            }
        }
        Ok(())
    }
}

/// Which kernel gave up waiting, and where; the driver reports it later, as a failed launch. Its process has lost the card.
pub fn stalled() -> Option<String> {
    let reports = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kernels = reports.kernels.iter().zip(reports.words);
    kernels.find_map(|(kernel, word)| {
        Stall::from_word(word.load(Ordering::Acquire)).map(|stall| format!("{kernel}: {stall}"))
    })
}

/// Room for `len` numbers that a kernel will write before anything reads them.
///
/// # Errors
/// The driver's error.
pub fn alloc(device: &CudaDevice, len: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: f32 may hold any bits, and the caller has them written first.
    unsafe { device.alloc(len) }
}

/// Numbers of a kernel as a tensor that is no part of a graph.
pub fn tensor(device: &CudaDevice, values: CudaSlice<f32>, shape: impl Into<Shape>) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(values, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// The numbers of a contiguous tensor, for a kernel.
///
/// # Errors
/// A strided tensor, one on another device, one of another type.
pub fn view<'a, T: CudaDType>(
    (storage, layout): &'a (impl Deref<Target = Storage>, &Layout),
) -> Result<CudaView<'a, T>> {
    match (&**storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, end))) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        _ => bail!("a kernel needs contiguous tensors on CUDA"),
    }
}

/// Multiprocessors of a device.
///
/// # Errors
/// The driver's error.
pub fn multiprocessors(device: &CudaDevice) -> Result<usize> {
    attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
}

/// Bytes of shared memory that one block can have.
///
/// # Errors
/// The driver's error.
pub fn shared_limit(device: &CudaDevice) -> Result<usize> {
    attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
}

/// The device's compute capability, major and minor.
///
/// # Errors
/// The driver's error.
pub fn capability(device: &CudaDevice) -> Result<(i32, i32)> {
    device.cuda_stream().context().compute_capability().w()
}

/// Whether the device has the tensor-core products that the kernels use.
///
/// # Errors
/// The driver's error.
pub fn has_tensor_products(device: &CudaDevice) -> Result<bool> {
    Ok(capability(device)?.0 >= 8)
}

/// Whether the device runs blocks in clusters, which reach each other's shared memory.
///
/// # Errors
/// The driver's error.
pub fn has_clusters(device: &CudaDevice) -> Result<bool> {
    Ok(capability(device)?.0 >= 9)
}

fn attribute(device: &CudaDevice, attribute: CUdevice_attribute) -> Result<usize> {
    Ok(device.cuda_stream().context().attribute(attribute).w()? as usize)
}

fn module(device: DeviceId, context: &Arc<CudaContext>, source: &Source) -> Result<Arc<CudaModule>> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&(device, source.clone())) {
        return Ok(Arc::clone(module));
    }
    let architecture = architecture(context.compute_capability().w()?);
    let module = context.load_module(Ptx::from_binary(compile(source, &architecture)?)).w()?;
    modules.insert((device, source.clone()), Arc::clone(&module));
    Ok(module)
}

/// The machine code of a source for an architecture such as `sm_90`. Needs no GPU.
///
/// Machine code rather than PTX, because a driver refuses PTX of a toolkit that is newer than itself.
///
/// # Errors
/// NVRTC's log.
pub fn compile(source: &Source, architecture: &str) -> Result<Vec<u8>> {
    let text = CString::new(source.text()).map_err(Error::wrap)?;
    let name = CString::new(source.name).map_err(Error::wrap)?;
    let program = Program(result::create_program(&text, Some(&name)).map_err(Error::wrap)?);
    // SAFETY: the program is alive; the buffer has the size that NVRTC asks for.
    unsafe {
        if let Err(error) = result::compile_program(program.0, &Source::options(architecture)) {
            let log = result::get_program_log(program.0).map_err(Error::wrap)?;
            let log = CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned();
            return Err(Error::Msg(format!("{} for {architecture}: {error}: {log}", source.name)));
        }
        let mut size = 0;
        sys::nvrtcGetCUBINSize(program.0, &raw mut size).result().map_err(Error::wrap)?;
        let mut binary = vec![0_u8; size];
        sys::nvrtcGetCUBIN(program.0, binary.as_mut_ptr().cast()).result().map_err(Error::wrap)?;
        Ok(binary)
    }
}

/// A program of NVRTC, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by NVRTC, and destroyed once. A failure only leaks some memory.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}
