//! NVIDIA's run-time compiler, opened by its path: tests compile every kernel where there is neither GPU nor driver.
#![expect(unsafe_code, reason = "a C library that is opened at run time")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use super::Source;
use crate::{Error, Result};

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Handle,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Handle) -> c_int;

/// The functions of `libnvrtc.so`; never closed.
#[derive(Debug)]
pub struct Nvrtc {
    create: Create,
    compile: Compile,
    log_size: Size,
    log: Bytes,
    binary_size: Size,
    binary: Bytes,
    destroy: Destroy,
}

fn unavailable(what: &str) -> Error {
    Error::Unavailable(format!("NVRTC: {what}"))
}

fn open(path: &Path) -> Result<Handle> {
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| unavailable("a path with a zero byte"))?;
    // SAFETY: a library's initialisers run; NVIDIA's do no harm.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        return Err(unavailable(&format!("{} cannot be opened", path.display())));
    }
    Ok(handle)
}

impl Nvrtc {
    /// Opens the library, and before it the built-in functions beside it, which it would look for elsewhere.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is not there or not NVRTC.
    pub fn open(library: &Path) -> Result<Self> {
        let beside = library.parent().and_then(|folder| folder.read_dir().ok());
        for entry in beside.into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(b"libnvrtc-builtins.so") {
                open(&entry.path())?;
            }
        }
        let handle = open(library)?;
        let find = |name: &CStr| {
            // SAFETY: an open handle and a name.
            let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if found.is_null() { Err(unavailable(&format!("{name:?} is missing"))) } else { Ok(found) }
        };
        // SAFETY: the types are those of nvrtc.h.
        unsafe {
            Ok(Self {
                create: std::mem::transmute::<Handle, Create>(find(c"nvrtcCreateProgram")?),
                compile: std::mem::transmute::<Handle, Compile>(find(c"nvrtcCompileProgram")?),
                log_size: std::mem::transmute::<Handle, Size>(find(c"nvrtcGetProgramLogSize")?),
                log: std::mem::transmute::<Handle, Bytes>(find(c"nvrtcGetProgramLog")?),
                binary_size: std::mem::transmute::<Handle, Size>(find(c"nvrtcGetCUBINSize")?),
                binary: std::mem::transmute::<Handle, Bytes>(find(c"nvrtcGetCUBIN")?),
                destroy: std::mem::transmute::<Handle, Destroy>(find(c"nvrtcDestroyProgram")?),
            })
        }
    }

    /// The machine code of a source for an architecture such as `sm_90`, and the compiler's log, which names kernels whose
    /// registers spill.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the log if it does not compile.
    pub fn compile(&self, source: &Source, architecture: &str) -> Result<(Vec<u8>, String)> {
        let text = |text: String| CString::new(text).map_err(|_| unavailable("a text with a zero byte"));
        let (body, name) = (text(source.text())?, text(source.name.to_owned())?);
        let mut options = Source::options(architecture);
        options.push("--ptxas-options=--warn-on-spills".into());
        let options = options.into_iter().map(text).collect::<Result<Vec<_>>>()?;
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = ptr::null_mut();
        // SAFETY: strings and pointers live through the calls.
        unsafe {
            let none = ptr::null();
            if (self.create)(&raw mut program, body.as_ptr(), name.as_ptr(), 0, none, none) != 0 {
                return Err(unavailable("it does not accept the program"));
            }
            let failed = (self.compile)(program, options.len() as c_int, options.as_ptr()) != 0;
            let log = bytes(program, self.log_size, self.log);
            let binary = if failed { Vec::new() } else { bytes(program, self.binary_size, self.binary) };
            (self.destroy)(&raw mut program);
            let log = String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_owned();
            if failed {
                return Err(unavailable(&format!("{} for {architecture}: {log}", source.name)));
            }
            Ok((binary, log))
        }
    }
}

/// What a program gives in two calls, one for its length.
///
/// # Safety
/// A live program.
unsafe fn bytes(program: Handle, size: Size, get: Bytes) -> Vec<u8> {
    let mut len = 0;
    // SAFETY: the buffer has the length that NVRTC asks for.
    unsafe {
        size(program, &raw mut len);
        let mut bytes = vec![0_u8; len];
        get(program, bytes.as_mut_ptr().cast());
        bytes
    }
}
