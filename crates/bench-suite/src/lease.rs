//! One process per cell: a lock that the system frees when its holder ends, and a lease for other hosts.

use crate::record::{Lease, host};
use crate::stop::{STOP, Stopped};
use anyhow::{Context, Result};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

/// Another live process computes this cell.
#[derive(Debug, thiserror::Error)]
#[error("cell {id} is being computed by another process (waited {waited_s} s): try again later")]
pub struct Locked {
    id: String,
    waited_s: u64,
}

/// How often a locked cell is checked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A held cell; dropping this or ending the process releases it.
#[derive(Debug)]
pub struct Held {
    file: File,
    path: PathBuf,
    lease: Lease,
    beats: Option<(Sender<()>, std::thread::JoinHandle<u64>)>,
}

/// Takes hold of the cell in `folder`, which is made where it is not there, waiting up to `wait` for its current holder;
/// removes what a killed one left.
pub fn hold(folder: &Path, id: &str, wait: Duration) -> Result<Held> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
    let started = Instant::now();
    let mut told = false;
    // The last lease of another host, and when it was first seen.
    let mut seen: Option<(Lease, Instant)> = None;
    let before = loop {
        let free = match file.try_lock() {
            Ok(()) => {
                let lease = read(&mut file).with_context(|| format!("cannot read {}", path.display()))?;
                if lease.ended || lease.host.is_empty() || lease.host == host() {
                    break lease;
                }
                match &seen {
                    Some((known, since)) if *known == lease => {
                        if since.elapsed().as_secs() >= Lease::STALE_S {
                            tracing::warn!("{id}: no sign of life from {}: taking over", lease.host);
                            break lease;
                        }
                    }
                    _ => seen = Some((lease, Instant::now())),
                }
                file.unlock()
            }
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        };
        free.with_context(|| format!("cannot lock {}", path.display()))?;
        if started.elapsed() >= wait {
            return Err(Locked { id: id.to_owned(), waited_s: wait.as_secs() }.into());
        }
        if STOP.load(Ordering::Relaxed) {
            return Err(Stopped.into());
        }
        if !told {
            tracing::info!("{id}: another process computes it; waiting up to {} s", wait.as_secs());
            told = true;
        }
        std::thread::sleep(LOOK_EVERY.min(wait.saturating_sub(started.elapsed())));
    };
    crate::places::sweep(folder)?;
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let task = variable("SLURM_ARRAY_TASK_ID");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let lease = Lease {
        host: host(),
        pid: std::process::id(),
        job: if task.is_empty() {
            variable("SLURM_JOB_ID")
        } else {
            format!("{}_{task}", variable("SLURM_ARRAY_JOB_ID"))
        },
        since,
        starts: before.starts + 1,
        beat: 0,
        ended: false,
    };
    let mut held = Held { file, path, lease, beats: None };
    held.write()?;
    held.start_beats(id)?;
    Ok(held)
}

impl Held {
    /// How often the cell was started before.
    pub fn restarts(&self) -> u64 {
        self.lease.starts - 1
    }

    /// Fails if another host has taken over the cell: this process must not write any more.
    pub fn check(&self, id: &str) -> Result<()> {
        if is_ours(&self.path, &self.lease) {
            return Ok(());
        }
        Err(Locked { id: id.to_owned(), waited_s: 0 }.into())
    }

    fn write(&mut self) -> Result<()> {
        put(&mut self.file, &self.lease).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Renews the lease until dropped. If another host has taken it over, the process ends at once; that is
    /// safe, since files of a cell are written atomically and the other host resumes from the last
    /// checkpoint.
    fn start_beats(&mut self, id: &str) -> Result<()> {
        let (stop, stopped) = channel();
        let (path, mut lease, id) = (self.path.clone(), self.lease.clone(), id.to_owned());
        let mut file = self.file.try_clone().with_context(|| format!("cannot keep {}", path.display()))?;
        let beats = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(Lease::BEAT_S)) == Err(RecvTimeoutError::Timeout) {
                if !is_ours(&path, &lease) {
                    tracing::error!("{id}: another host computes it now");
                    std::process::exit(75);
                }
                lease.beat += 1;
                if let Err(error) = put(&mut file, &lease) {
                    // Training will notice if the cell cannot be written.
                    tracing::warn!("{}: {error}", path.display());
                }
            }
            lease.beat
        });
        self.beats = Some((stop, beats));
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((stop, beats)) = self.beats.take() {
            drop(stop);
            self.lease.beat = beats.join().unwrap_or_default();
        }
        if is_ours(&self.path, &self.lease) {
            self.lease.ended = true;
            // On failure, other hosts wait until the lease is stale.
            let _ = put(&mut self.file, &self.lease);
        }
    }
}

fn is_ours(path: &Path, lease: &Lease) -> bool {
    // A file read in the middle of our own write does not mean another host.
    let Some(found) = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Lease>(&text).ok())
    else {
        return true;
    };
    (&found.host, found.pid, found.starts) == (&lease.host, lease.pid, lease.starts)
}

/// Nobody holds an empty or damaged lease.
fn read(file: &mut File) -> std::io::Result<Lease> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).unwrap_or_default())
}

fn put(file: &mut File, lease: &Lease) -> std::io::Result<()> {
    let mut text = serde_json::to_string(lease)?;
    text.push('\n');
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(path: &Path) -> Lease {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_lease_is_held_counted_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for restarts in 0..3 {
            let held = hold(dir.path(), "a", Duration::ZERO).unwrap();
            assert_eq!(held.restarts(), restarts);
            assert!(!lease(&path).ended && lease(&path).pid == std::process::id());
            held.check("a").unwrap();
            assert!(hold(dir.path(), "a", Duration::ZERO).unwrap_err().is::<Locked>());
            drop(held);
            assert!(lease(&path).ended);
        }
    }

    #[test]
    fn another_hosts_lease_counts_though_its_lock_is_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let other = Lease { host: "elsewhere".into(), pid: 1, starts: 4, ..Lease::default() };
        std::fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        assert!(hold(dir.path(), "a", Duration::from_millis(120)).unwrap_err().is::<Locked>());
        let ended = Lease { ended: true, ..other.clone() };
        std::fs::write(&path, serde_json::to_vec(&ended).unwrap()).unwrap();
        let held = hold(dir.path(), "a", Duration::ZERO).unwrap();
        assert_eq!(held.restarts(), 4);
        let taken = Lease { starts: 6, ..other };
        std::fs::write(&path, serde_json::to_vec(&taken).unwrap()).unwrap();
        assert!(held.check("a").unwrap_err().is::<Locked>());
        drop(held);
        assert_eq!(lease(&path), taken, "what another host took is left alone");
    }

    #[test]
    fn a_damaged_lease_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "{half").unwrap();
        assert_eq!(hold(dir.path(), "a", Duration::ZERO).unwrap().restarts(), 0);
    }
}
