//! `cargo xtask serve`: a folder of static files to browsers on this machine, and to nobody else.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::runs::Serve;

/// Longest request line and header that is read.
const LONGEST: u64 = 8192;

/// Serves until it is stopped.
pub(crate) fn serve(args: &Serve) -> Result<()> {
    let folder =
        fs::canonicalize(&args.dir).with_context(|| format!("{} is no folder", args.dir.display()))?;
    if !folder.join("index.html").is_file() {
        bail!("{} has no index.html: cargo xtask export RUN --page DIR makes a page", args.dir.display());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .with_context(|| format!("port {} is taken: choose another with --port", args.port))?;
    eprintln!("http://{} serves {}; Ctrl-C ends it", listener.local_addr()?, args.dir.display());
    for stream in listener.incoming().flatten() {
        let folder = folder.clone();
        thread::spawn(move || {
            if let Err(error) = answer(stream, &folder) {
                eprintln!("a request was not answered: {error:#}");
            }
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, folder: &Path) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = String::new();
    BufReader::new(std::io::Read::take(&stream, LONGEST)).read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let found = match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some(target)) => file(folder, target),
        _ => None,
    };
    let body = found.as_ref().and_then(|path| fs::read(path).ok());
    let (status, kind) = match (&found, &body) {
        (Some(path), Some(_)) => ("200 OK", kind(path)),
        _ => ("404 Not Found", "text/plain"),
    };
    let body = body.unwrap_or_else(|| b"not found".to_vec());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-cache\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )?;
    if !line.starts_with("HEAD") {
        stream.write_all(&body)?;
    }
    Ok(())
}

/// The file of a request's target; none for what is not there or lies elsewhere.
fn file(folder: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.trim_start_matches('/');
    let path = Path::new(if path.is_empty() { "index.html" } else { path });
    let below = path.components().all(|part| matches!(part, Component::Normal(_)));
    let path = below.then(|| fs::canonicalize(folder.join(path)).ok()).flatten()?;
    (path.starts_with(folder) && path.is_file()).then_some(path)
}

/// What a browser is told of a file; modules and wasm are refused under another name.
fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("mjs" | "js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_folder_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(dir.path()).unwrap().join("page");
        fs::create_dir_all(folder.join("model")).unwrap();
        fs::write(folder.join("index.html"), "").unwrap();
        fs::write(folder.join("model/config.json"), "").unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        assert_eq!(file(&folder, "/"), Some(folder.join("index.html")));
        assert_eq!(file(&folder, "/model/config.json?x=1"), Some(folder.join("model/config.json")));
        for target in
            ["/../secret", "/model/../../secret", "//etc/passwd", "/model", "/none", "/%2e%2e/secret"]
        {
            assert_eq!(file(&folder, target), None, "{target}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("link")).unwrap();
            assert_eq!(file(&folder, "/link"), None);
        }
    }
}
