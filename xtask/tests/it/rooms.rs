//! The law of the rooms: inside every package imports point one way.
//!
//! Files form no circle, and at every level of a package's tree of modules those that lie side by side form none either:
//! an import between two files counts as one between those of their folders (or themselves) that lie side by side. What
//! a path reaches through a re-export counts as where it is, so that a re-export hides nothing. A folder's `mod.rs` and
//! the files in the folder are one: imports between a parent and its children do not count. Code of tests does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::fake::repo;

/// The roots of the crates, by package.
const ROOTS: [(&str, &str); 6] = [
    ("xtask", "xtask/src/main.rs"),
    ("tt-core", "crates/tt-core/src/lib.rs"),
    ("tt-rnn", "crates/tt-rnn/src/lib.rs"),
    ("video-data", "crates/video-data/src/lib.rs"),
    ("bench-suite", "crates/bench-suite/src/lib.rs"),
    ("bench-suite, the program", "crates/bench-suite/src/bin/bench-suite/main.rs"),
];

/// Rooms from the lowest up: each imports only from those in lines before its own, those in the first line from each
/// other too. What has no room stands on the first line and imports nothing above it.
type Rooms<'a> = &'a [&'a [&'a str]];
const XTASK: Rooms<'_> = &[&["repo", "text"], &["cli"], &["machine"], &["run"], &["dev", "verbs"]];
/// What has no room is the engine: it draws no page, and no page knows of it.
const BENCH_SUITE: Rooms<'_> = &[
    &[
        "device_name",
        "events",
        "paper",
        "pretrained",
        "provenance",
        "record",
        "record_files",
        "spec",
        "stats",
        "text",
    ],
    &["results"],
    &["draw"],
];

/// A path of modules, and for an item its name, from the root of a crate.
type Names = Vec<String>;

/// The file of a module.
#[derive(Default)]
struct File {
    /// What it names of this crate.
    uses: BTreeSet<Names>,
    /// What it re-exports under which name.
    exports: BTreeMap<String, Names>,
}

/// A crate's files by module.
type Files = BTreeMap<Names, File>;

/// Why one module cannot be without another: the file, and what it names.
type Edges = BTreeMap<(String, String), (Names, Names)>;

/// Reads a file and those of the modules that it declares.
fn read(path: &Path, module: &[String], files: &mut Files) {
    let text = fs::read_to_string(path).unwrap();
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut file = File::default();
    let mut children = Vec::new();
    walk(&tokens.into_iter().collect::<Vec<_>>(), module, &mut file, &mut children);
    files.insert(module.to_vec(), file);
    let stem = path.file_stem().unwrap();
    let is_front = ["mod", "lib", "main"].iter().any(|front| stem == *front);
    let dir = if is_front { path.parent().unwrap().to_owned() } else { path.with_extension("") };
    for child in children {
        let places = [dir.join(format!("{child}.rs")), dir.join(&child).join("mod.rs")];
        let place: &PathBuf = places.iter().find(|place| place.is_file()).unwrap();
        read(place, &[module, &[child]].concat(), files);
    }
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token? {
        TokenTree::Ident(name) => Some(name.to_string()),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// Whether two colons stand here.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether an attribute keeps what follows it for tests.
fn is_for_tests(attribute: &TokenTree) -> bool {
    let text: String = attribute.to_string().split_whitespace().collect();
    ["[cfg(test)", "[cfg(all(test", "[cfg(any(test"].iter().any(|start| text.starts_with(start))
}

/// The paths in texts of an attribute, such as serde's `try_from = "crate::a::B"`.
fn in_texts(attribute: &TokenTree) -> Vec<Names> {
    match attribute {
        TokenTree::Group(group) => group.stream().into_iter().flat_map(|token| in_texts(&token)).collect(),
        TokenTree::Literal(text) => {
            let text = text.to_string();
            let path = text.trim_matches('"').split('<').next().unwrap_or_default();
            let names: Names = path.split("::").map(str::to_owned).collect();
            if names.len() > 1 && names[0] == "crate" { vec![names] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

/// Collects what tokens of a module name, re-export and declare.
fn walk(tokens: &[TokenTree], module: &[String], file: &mut File, children: &mut Vec<String>) {
    let mut at = 0;
    let mut public = false;
    while at < tokens.len() {
        let word = ident(tokens.get(at)).unwrap_or_default();
        match &tokens[at] {
            TokenTree::Punct(punct)
                if punct.as_char() == '#' && tokens.get(at + 1).is_some_and(is_for_tests) =>
            {
                let ends = |token: &TokenTree| match token {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    token => is_punct(Some(token), ';'),
                };
                at += tokens[at..].iter().position(ends).unwrap_or(tokens.len() - at);
            }
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let texts = tokens.get(at + 1).map(in_texts).unwrap_or_default();
                file.uses.extend(texts.iter().map(|path| absolute(path, module)));
            }
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                // `pub(crate)` goes on with what it makes public.
                let is_visibility = public && group.delimiter() == Delimiter::Parenthesis;
                walk(&inner, module, file, children);
                public = is_visibility;
                at += 1;
                continue;
            }
            _ if word == "mod" && is_punct(tokens.get(at + 2), ';') => {
                children.extend(ident(tokens.get(at + 1)));
            }
            // Not what a type captures, as in `impl Trait + use<T>`.
            _ if word == "use" && !is_punct(tokens.get(at + 1), '<') => {
                let end = tokens[at..].iter().position(|token| is_punct(Some(token), ';')).unwrap() + at;
                for (name, path) in tree(&tokens[at + 1..end], &[]) {
                    let known = |first: &String| ["crate", "super", "self"].contains(&first.as_str());
                    let is_child = path.first().is_some_and(|first| children.contains(first));
                    if path.first().is_some_and(known) || is_child {
                        let path = absolute(&path, module);
                        if public {
                            file.exports.insert(name, path.clone());
                        }
                        file.uses.insert(path);
                    }
                }
                at = end;
            }
            _ if ["crate", "super", "self"].contains(&word.as_str()) && is_path(tokens, at + 1) => {
                let mut path = vec![word.clone()];
                while is_path(tokens, at + 1)
                    && let Some(next) = ident(tokens.get(at + 3))
                {
                    path.push(next);
                    at += 3;
                }
                file.uses.insert(absolute(&path, module));
            }
            _ => {}
        }
        public = word == "pub";
        at += 1;
    }
}

/// The paths of a tree of `use` with the names that they get.
fn tree(tokens: &[TokenTree], prefix: &[String]) -> Vec<(String, Names)> {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let branches = inner.split(|token| is_punct(Some(token), ','));
                return branches.filter(|b| !b.is_empty()).flat_map(|branch| tree(branch, &path)).collect();
            }
            TokenTree::Ident(name) if *name == "as" => {
                return vec![(ident(tokens.get(at + 1)).unwrap(), path)];
            }
            // `a::{self}` is `a`.
            TokenTree::Ident(name) if *name == "self" && !path.is_empty() => {}
            TokenTree::Ident(name) => path.push(name.to_string()),
            _ => {}
        }
        at += 1;
    }
    vec![(path.last().cloned().unwrap_or_default(), path)]
}

/// A path from the root of the crate.
fn absolute(path: &[String], module: &[String]) -> Names {
    let mut base = match path[0].as_str() {
        "crate" => Vec::new(),
        _ => module.to_vec(),
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => drop(base.pop()),
            name => base.push(name.to_owned()),
        }
    }
    base
}

/// The module in which what a path names is, behind all re-exports.
fn home(path: &[String], files: &Files) -> Names {
    let known = (0..=path.len()).rev().find(|length| files.contains_key(&path[..*length])).unwrap();
    let (module, rest) = path.split_at(known);
    match rest.first().and_then(|name| files[module].exports.get(name)) {
        Some(exported) if exported != path => home(&[&exported[..], &rest[1..]].concat(), files),
        _ => module.to_vec(),
    }
}

/// Imports between files, and between the modules directly below each module.
fn edges(files: &Files) -> (Edges, BTreeMap<Names, Edges>) {
    let mut flat = Edges::new();
    let mut all: BTreeMap<Names, Edges> = BTreeMap::new();
    for (from, file) in files {
        for path in &file.uses {
            let to = home(path, files);
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                let why = || (from.clone(), path.clone());
                flat.entry((from.join("::"), to.join("::"))).or_insert_with(why);
                let siblings = all.entry(from[..shared].to_vec()).or_default();
                siblings.entry((a.clone(), b.clone())).or_insert_with(why);
            }
        }
    }
    (flat, all)
}

/// A circle among siblings: each imports the next, and the last the first.
fn circle(edges: &Edges) -> Option<Vec<&str>> {
    fn visit<'a>(
        at: &'a str,
        edges: &'a Edges,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> bool {
        if let Some(start) = way.iter().position(|name| *name == at) {
            way.drain(..start);
            return true;
        }
        if !done.insert(at) {
            return false;
        }
        way.push(at);
        let next = edges.keys().filter(|(from, _)| from == at).map(|(_, to)| to.as_str());
        for to in next {
            if visit(to, edges, way, done) {
                return true;
            }
        }
        way.pop();
        false
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|(from, _)| {
        let mut way = Vec::new();
        visit(from, edges, &mut way, &mut done).then_some(way)
    })
}

/// What holds a circle together, for people.
fn told(circle: &[&str], edges: &Edges) -> String {
    let next = circle.iter().cycle().skip(1);
    let step = |(from, to): (&&str, &&str)| {
        let (file, path) = &edges[&((*from).to_owned(), (*to).to_owned())];
        format!("\n  {from} imports {to}: {} uses {}", file.join("::"), path.join("::"))
    };
    circle.iter().zip(next).map(step).collect()
}

fn package(root: &str) -> Files {
    let mut files = Files::new();
    read(&repo().join(root), &[], &mut files);
    files
}

#[test]
fn no_package_has_a_circle() {
    let mut circles = Vec::new();
    for (name, root) in ROOTS {
        let (flat, levels) = edges(&package(root));
        let levels = levels.into_iter().map(|(below, edges)| (below.join("::"), edges));
        for (place, edges) in levels.chain([("its files".to_owned(), flat)]) {
            if let Some(circle) = circle(&edges) {
                circles.push(format!("\n{name}, {place:?}:{}", told(&circle, &edges)));
            }
        }
    }
    assert!(
        circles.is_empty(),
        "imports run in a circle: move what both need below both{}",
        circles.concat()
    );
}

/// Imports that the rooms forbid.
fn upwards(files: &Files, rooms: Rooms<'_>) -> Vec<String> {
    let level = |room: &str| rooms.iter().position(|level| level.contains(&room));
    let forbidden = |from: &str, to: &str| match (level(from), level(to)) {
        (Some(from), Some(to)) => to > from || (to == from && to > 0),
        (Some(_), None) => true,
        (None, to) => to.is_some_and(|to| to > 0),
    };
    let all = &edges(files).1[&Vec::new()];
    all.iter()
        .filter(|((from, to), _)| forbidden(from, to))
        .map(|((from, to), (file, path))| {
            format!("{} uses {}: {from} must not import {to}", file.join("::"), path.join("::"))
        })
        .collect()
}

#[test]
fn rooms_import_downwards() {
    let (xtask, bench_suite) = (package("xtask/src/main.rs"), package("crates/bench-suite/src/lib.rs"));
    for room in xtask.keys().filter(|module| module.len() == 1) {
        assert!(XTASK.concat().contains(&room[0].as_str()), "{} has no place among the rooms", room[0]);
    }
    assert_eq!(upwards(&xtask, XTASK), [""; 0]);
    assert_eq!(upwards(&bench_suite, BENCH_SUITE), [""; 0]);
    // The same law with two rooms exchanged is broken, as it is where the engine would be one.
    let exchanged: Rooms<'_> = &[BENCH_SUITE[0], BENCH_SUITE[2], BENCH_SUITE[1]];
    assert!(!upwards(&bench_suite, exchanged).is_empty());
    assert!(!upwards(&bench_suite, &[&["spec"], &["record"]]).is_empty());
}

#[test]
fn circles_are_found_behind_folders_and_re_exports() {
    let files = |texts: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in texts {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut files = Files::new();
        read(&dir.path().join("lib.rs"), &[], &mut files);
        files
    };
    let found = |texts: &[(&str, &str)]| {
        let (flat, levels) = edges(&files(texts));
        let names = |edges: &Edges| circle(edges).map(|circle| circle.join(" "));
        (levels.values().find_map(names), names(&flat))
    };
    let root = ("lib.rs", "mod a; mod b; pub use a::X;");
    let a = ("a/mod.rs", "mod x; pub(crate) use x::{X, Y as Z};");
    // b needs a by the root's re-export, and a file in a needs b by a path in its code.
    let b = ("b.rs", "use crate::X; pub struct B;");
    let both = |level: &str, files: &str| (Some(level.to_owned()), Some(files.to_owned()));
    assert_eq!(found(&[root, a, b, ("a/x.rs", "fn f() { super::super::b::B; }")]), both("a b", "a::x b"));
    let words = "use super::Z; // crate::b::B\nconst C: &str = \"crate::b\";";
    assert_eq!(found(&[root, a, b, ("a/x.rs", words)]), (None, None));
    let tests = "#[cfg(test)]\nmod tests { use crate::b::B; }\n#[cfg(test)] use crate::b;";
    assert_eq!(found(&[root, a, b, ("a/x.rs", tests)]), (None, None));
    let attribute = "#[serde(try_from = \"crate::b::B<T>\")] struct S;";
    assert_eq!(found(&[root, a, b, ("a/x.rs", attribute)]), both("a b", "a::x b"));
    let ring = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::{b::B, c::{self}};"),
        ("b.rs", "use crate::c as d;"),
        ("c.rs", "use super::a;"),
    ];
    assert_eq!(found(&ring), both("a b c", "a b c"));
    let folders = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod x; mod y;"),
        ("a/x.rs", "use crate::b;"),
        ("a/y.rs", ""),
        ("b.rs", "use crate::a::y;"),
    ];
    assert_eq!(found(&folders), (Some("a b".into()), None), "of folders, not of files");
}
