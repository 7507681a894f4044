//! `cargo xtask data`: from an address or an archive to frames that an experiment can read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use bench_suite::draw::charts;
use bench_suite::files;
use bench_suite::paper;
use bench_suite::results::{read_csv, write_atomic};
use serde::Deserialize;

use crate::cli::data::Data;
use crate::machine::packages;
use crate::repo::{self, Repo};
use crate::run::engine::{self, BAD_DATA, BadInput};

/// The list of addresses.
const SOURCES: &str = "data/sources.toml";
/// Where archives land.
const DOWNLOADS: &str = "data/downloads";

/// Runs a verb.
pub(crate) fn data(repo: &Repo, verb: &Data) -> Result<()> {
    if let Data::Fetch { name } = verb {
        return fetch(repo, name);
    }
    if let Data::Import { install, .. } | Data::Verify { install, .. } = verb {
        packages::ensure(*install)?;
        repo.build(&["video-data"], "decoding, links FFmpeg", true)?;
    }
    repo.build_catalog()?;
    let mut command = repo.binary("clip-catalog");
    match verb {
        Data::List => command.arg("list"),
        Data::Fetch { .. } => return Ok(()),
        Data::Import { name, path, allow_partial, split, .. } => {
            command.args(["import", name]);
            if let Some(path) = path {
                let path = std::path::absolute(path).context("the current folder cannot be read")?;
                check_archive(repo, &path)?;
                command.arg(path);
            }
            if let Some(list) = split {
                command
                    .arg("--split")
                    .arg(std::path::absolute(list).context("the current folder cannot be read")?);
            }
            command.args(allow_partial.then_some("--allow-partial"))
        }
        Data::Verify { name, fast, .. } => command.args(["verify", name]).args(fast.then_some("--fast")),
        Data::Stats { name } => return stats(repo, name, command.args(["stats", name])),
        Data::Remove { name, yes } => command.args(["remove", name]).args(yes.then_some("--yes")),
    };
    let status = command.status().with_context(|| format!("failed to start {}", repo::line(&command)))?;
    finish(status, &command)
}

fn finish(status: ExitStatus, command: &Command) -> Result<()> {
    match status.code() {
        Some(0) => Ok(()),
        Some(BAD_DATA) => Err(BadInput("the data cannot be used as it is (see above)").into()),
        _ => Err(engine::ended(&repo::line(command), status)),
    }
}

/// An entry of [`SOURCES`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    archive: String,
    page: String,
    urls: Vec<String>,
    sha256: Option<String>,
}

fn sources(repo: &Repo) -> Result<BTreeMap<String, Source>> {
    let text = fs::read_to_string(repo.path(SOURCES)).with_context(|| format!("{SOURCES} cannot be read"))?;
    toml::from_str(&text).with_context(|| format!("{SOURCES} is wrong"))
}

fn fetch(repo: &Repo, name: &str) -> Result<()> {
    let sources = sources(repo)?;
    let Some(source) = sources.get(name) else {
        let known: Vec<&str> = sources.keys().map(String::as_str).collect();
        bail!("{SOURCES} has no address for {name:?}; it has {}", known.join(", "));
    };
    if source.archive.contains('/') || source.archive.starts_with('.') {
        bail!("{SOURCES}: {:?} is not a file name", source.archive);
    }
    let dir = repo.path(DOWNLOADS);
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let archive = dir.join(&source.archive);
    if archive.is_file() {
        eprintln!("{} is already here", repo.show(&archive));
    } else {
        download(repo, source, &archive)?;
    }
    check_archive(repo, &archive)?;
    eprintln!("next: cargo xtask data import {name} {}", repo.show(&archive));
    Ok(())
}

/// Tries the addresses in order; what is there of an earlier try is kept.
fn download(repo: &Repo, source: &Source, archive: &Path) -> Result<()> {
    let partial = archive.with_added_extension("part");
    let mut failures = Vec::new();
    for url in &source.urls {
        eprintln!("downloading {url}");
        let mut curl = Command::new("curl");
        curl.args(["--fail", "--location", "--continue-at", "-", "--retry", "3", "--connect-timeout", "20"]);
        curl.args(["--progress-bar", "--proto", "=http,https,ftp", "--output"]).arg(&partial).arg(url);
        match curl.status() {
            // A download must not be continued from the next address when it is not an archive.
            Ok(status) if status.success() && is_web_page(&partial)? => {
                fs::remove_file(&partial)
                    .with_context(|| format!("{} cannot be removed", partial.display()))?;
                failures.push(format!("{url}: it sent a web page, not an archive"));
            }
            Ok(status) if status.success() => {
                return fs::rename(&partial, archive)
                    .with_context(|| format!("{} cannot be renamed", partial.display()));
            }
            Ok(status) => failures.push(format!("{url}: curl ended with {status}")),
            Err(error) => failures.push(format!("{url}: curl cannot be started ({error}): install curl")),
        }
    }
    bail!(
        "{} could not be downloaded:\n  {}\nThe dataset's page is {}. Put the archive into {}/ by any other \
         means and run the same command again, or add an address to {SOURCES}.",
        source.archive,
        failures.join("\n  "),
        source.page,
        repo.show(&repo.path(DOWNLOADS))
    )
}

/// Whether a file is HTML, as servers send it in the place of what was asked for.
fn is_web_page(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = fs::File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    file.take(1024).read_to_end(&mut start).with_context(|| format!("{} cannot be read", path.display()))?;
    let text = String::from_utf8_lossy(&start).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    Ok(["<!doctype html", "<html", "<head", "<!--", "<?xml"].iter().any(|tag| text.starts_with(tag)))
}

/// Compares an archive with the digest in [`SOURCES`] and with the one beside it, which is written the first time
/// for an archive that was fetched.
fn check_archive(repo: &Repo, path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    if is_web_page(path)? {
        bail!("{} is a web page, not an archive: remove it and get the archive again", repo.show(path));
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let found = files::digest(path).with_context(|| format!("{} cannot be read", path.display()))?;
    eprintln!("{found}  {}", repo.show(path));
    let wrong = |whose: &str, expected: &str| -> Result<()> {
        bail!(
            "the SHA-256 of {} is not the one in {whose} ({expected}): it is damaged or another archive; remove it \
             and fetch it again",
            repo.show(path)
        )
    };
    if let Some(expected) =
        sources(repo)?.values().find(|s| s.archive == file).and_then(|s| s.sha256.as_deref())
        && !expected.eq_ignore_ascii_case(&found)
    {
        return wrong(SOURCES, expected);
    }
    let record = path.with_added_extension("sha256");
    match fs::read_to_string(&record) {
        Ok(text) => {
            let expected = text.split_whitespace().next().unwrap_or_default();
            return if expected == found { Ok(()) } else { wrong(&repo.show(&record), expected) };
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", repo.show(&record))),
    }
    if path.parent() == Some(&repo.path(DOWNLOADS)) {
        write_atomic(&record, format!("{found}  {file}\n").as_bytes())?;
    }
    Ok(())
}

/// A clip of `clips.csv`, as far as the chart needs it.
#[derive(Debug, Deserialize)]
struct Length {
    frames: usize,
}

fn stats(repo: &Repo, name: &str, command: &mut Command) -> Result<()> {
    command.stdout(std::process::Stdio::piped());
    let output = command.spawn()?.wait_with_output()?;
    finish(output.status, command)?;
    let dir = repo.path(String::from_utf8_lossy(&output.stdout).trim());
    let clips: Vec<Length> = read_csv(&dir.join("clips.csv"))?;
    let lengths: Vec<usize> = clips.iter().map(|clip| clip.frames).collect();
    charts::lengths(&dir, name, &lengths, paper::dataset(name))?;
    let table = dir.join("classes.csv");
    eprint!("{}", fs::read_to_string(&table).with_context(|| format!("{} cannot be read", table.display()))?);
    eprintln!("written to {}", repo.show(&dir));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;

    /// Serves a page at `/page` and an archive everywhere else, until the tests end.
    fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = vec![0; 4096];
                let n = stream.read(&mut request).unwrap_or(0);
                let body: &[u8] = match String::from_utf8_lossy(&request[..n]) {
                    text if text.starts_with("GET /page") => b"\n<!DOCTYPE html><title>Sign in</title>",
                    _ => b"Rar!\x1a\x07\x01\x00",
                };
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.as_bytes(), body].concat());
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn a_web_page_is_no_archive_and_leaves_nothing() {
        if Command::new("curl").arg("--version").output().is_err() {
            let _ =
                writeln!(std::io::stderr(), "SKIPPED a_web_page_is_no_archive_and_leaves_nothing: no curl");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (repo, server) = (Repo::at(dir.path()), server());
        let downloads = dir.path().join(DOWNLOADS);
        fs::create_dir_all(&downloads).unwrap();
        let try_from = |urls: &[&str]| {
            let urls: Vec<String> =
                urls.iter().map(|url| format!("{:?}", format!("{server}{url}"))).collect();
            let text = format!("[clips]\narchive = \"a.rar\"\npage = \"p\"\nurls = [{}]\n", urls.join(","));
            fs::write(dir.path().join(SOURCES), text).unwrap();
            fetch(&repo, "clips")
        };
        let error = format!("{:#}", try_from(&["/page"]).unwrap_err());
        assert!(error.contains("/page: it sent a web page, not an archive"), "{error}");
        assert_eq!(fs::read_dir(&downloads).unwrap().count(), 0, "something is left");
        // One that was saved by hand is named, and leaves no digest that the archive would have to have.
        fs::write(downloads.join("a.rar"), "<html>").unwrap();
        let error = format!("{:#}", try_from(&["/a.rar"]).unwrap_err());
        assert!(error.contains("a.rar is a web page"), "{error}");
        fs::remove_file(downloads.join("a.rar")).unwrap();
        try_from(&["/page", "/a.rar"]).unwrap();
        assert_eq!(fs::read(downloads.join("a.rar")).unwrap(), b"Rar!\x1a\x07\x01\x00");
        assert!(downloads.join("a.rar.sha256").is_file());
    }
}
