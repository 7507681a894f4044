//! Runs CUDA kernels on the CPU, for tests: the system's C++ compiler and `emulator.h`, one fiber per thread.
//!
//! The emulation is exact for integers, copies, barriers and rounding to f16 and bf16, and rounds tensor-core products
//! toward zero; it aborts on accesses outside buffers, deadlocks, and results that depend on the order of threads.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Launch, Source};
use crate::{Error, Result};

/// What `device.h` and `hopper.h` include where the target is no GPU.
const HEADERS: [(&str, &str); 3] = [
    ("emulator.h", include_str!("emulator.h")),
    ("intrinsics.h", include_str!("intrinsics.h")),
    ("hopper_emulation.h", include_str!("hopper_emulation.h")),
];

/// An argument of a kernel; buffers are written back after the launch.
#[derive(Debug)]
pub enum Argument<'a> {
    /// Floats.
    F32(&'a mut [f32]),
    /// Words.
    U32(&'a mut [u32]),
    /// Bytes.
    U8(&'a mut [u8]),
    /// A null pointer.
    Null,
    /// A 4-byte integer.
    Int(i32),
    /// An 8-byte integer.
    Long(i64),
    /// A 4-byte number.
    Float(f32),
}

impl Argument<'_> {
    /// Whether it is a buffer, and its bytes.
    fn bytes(&self) -> (bool, Vec<u8>) {
        match self {
            Self::F32(values) => (true, values.iter().flat_map(|v| v.to_ne_bytes()).collect()),
            Self::U32(values) => (true, values.iter().flat_map(|v| v.to_ne_bytes()).collect()),
            Self::U8(values) => (true, values.to_vec()),
            Self::Null => (true, Vec::new()),
            Self::Int(value) => (false, value.to_ne_bytes().to_vec()),
            Self::Long(value) => (false, value.to_ne_bytes().to_vec()),
            Self::Float(value) => (false, value.to_ne_bytes().to_vec()),
        }
    }

    /// Takes back a buffer from the start of `bytes`; returns the rest.
    fn restore<'b>(&mut self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        fn words<T>(values: &mut [T], bytes: &[u8], value: impl Fn([u8; 4]) -> T) {
            for (to, from) in values.iter_mut().zip(bytes.as_chunks().0) {
                *to = value(*from);
            }
        }
        let (own, rest) = bytes.split_at_checked(match self {
            Self::F32(values) => size_of_val(*values),
            Self::U32(values) => size_of_val(*values),
            Self::U8(values) => values.len(),
            Self::Null | Self::Int(_) | Self::Long(_) | Self::Float(_) => 0,
        })?;
        match self {
            Self::F32(values) => words(values, own, f32::from_ne_bytes),
            Self::U32(values) => words(values, own, u32::from_ne_bytes),
            Self::U8(values) => values.copy_from_slice(own),
            Self::Null | Self::Int(_) | Self::Long(_) | Self::Float(_) => {}
        }
        Some(rest)
    }
}

/// Whether there is a C++ compiler.
pub fn available() -> bool {
    Command::new(compiler()).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

/// Runs one launch; compiles the source first unless the same was compiled before.
///
/// # Errors
/// [`Error::Unavailable`] without a compiler, with the compiler's messages, or with what the emulator found wrong. After a
/// trap the buffers are as the kernel left them.
pub fn emulate(source: &Source, launch: &Launch, arguments: &mut [Argument<'_>]) -> Result<()> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let program = compile(source)?;
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let file = |kind: &str| program.with_extension(format!("{}-{call}.{kind}", std::process::id()));
    let (input, output) = (file("call"), file("result"));
    write(&input, &encode(launch, arguments))?;
    let run = Command::new(&program).arg(&input).arg(&output).output();
    let result = fs::read(&output);
    for path in [&input, &output] {
        // A file left behind harms nobody.
        let _ = fs::remove_file(path);
    }
    let run = run.map_err(|error| Error::Unavailable(format!("the emulation: {error}")))?;
    // A kernel that gave up left one too.
    let mut rest = result.as_deref().unwrap_or_default();
    let whole = arguments.iter_mut().all(|argument| match argument.restore(rest) {
        Some(after) => {
            rest = after;
            true
        }
        None => false,
    });
    if !run.status.success() {
        let message = String::from_utf8_lossy(&run.stderr);
        return Err(Error::Unavailable(format!("{} in the emulation: {message}", launch.kernel)));
    }
    result.map_err(|error| Error::Unavailable(format!("the emulation's result: {error}")))?;
    if !whole {
        return Err(Error::Unavailable("the emulation's result is too short".to_owned()));
    }
    Ok(())
}

fn encode(launch: &Launch, arguments: &[Argument<'_>]) -> Vec<u8> {
    let mut call = Vec::new();
    let number = |call: &mut Vec<u8>, value: usize| call.extend((value as u64).to_ne_bytes());
    number(&mut call, launch.kernel.len());
    call.extend(launch.kernel.as_bytes());
    for value in launch.grid.into_iter().chain(launch.block) {
        number(&mut call, value);
    }
    number(&mut call, launch.shared_bytes);
    number(&mut call, usize::from(launch.cooperative));
    number(&mut call, launch.cluster);
    number(&mut call, arguments.len());
    for argument in arguments {
        let (buffer, bytes) = argument.bytes();
        number(&mut call, usize::from(buffer));
        number(&mut call, bytes.len());
        call.extend(bytes);
    }
    call
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| Error::Unavailable(format!("{}: {error}", path.display())))
}

/// The program of a source, named after the digest of its text.
fn compile(source: &Source) -> Result<PathBuf> {
    static PROGRAMS: Mutex<BTreeMap<u64, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let text = source.text();
    let mut digest = DefaultHasher::new();
    (&text, HEADERS, compiler()).hash(&mut digest);
    let digest = digest.finish();
    // A program is compiled once, different ones side by side.
    let program =
        Arc::clone(PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default());
    let _guard = program.lock().unwrap_or_else(PoisonError::into_inner);
    // Beside the test: a folder of this user alone, since what lies there is run.
    let test =
        std::env::current_exe().map_err(|error| Error::Unavailable(format!("the emulation: {error}")))?;
    let folder = test.with_file_name("emulation");
    let name = source.name.trim_end_matches(".cu");
    let program = folder.join(format!("{name}-{digest:016x}"));
    if program.exists() {
        return Ok(program);
    }
    let own = folder.join(format!("compile-{}-{digest:016x}", std::process::id()));
    fs::create_dir_all(&own).map_err(|error| Error::Unavailable(format!("{}: {error}", own.display())))?;
    for (name, header) in HEADERS {
        write(&own.join(name), header.as_bytes())?;
    }
    write(&own.join("kernel.cpp"), text.as_bytes())?;
    let built = own.join("kernel");
    let output = Command::new(compiler())
        .args(["-std=c++17", "-O1", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w"])
        .args(["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error", "-o"])
        .args([&built, &own.join("kernel.cpp")])
        .output()
        .map_err(|error| Error::Unavailable(format!("a C++ compiler ({}): {error}", compiler())))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Unavailable(format!("{} does not compile: {message}", source.name)));
    }
    // Another process that comes second replaces the same program.
    let moved = fs::rename(&built, &program);
    let _ = fs::remove_dir_all(&own);
    moved.map_err(|error| Error::Unavailable(format!("{}: {error}", program.display())))?;
    Ok(program)
}
