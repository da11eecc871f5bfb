//! Rules of the sources that no compiler holds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use timesale::telemetry::catalogue::CATALOGUE;

use super::support::repository;

/// A source file: its path from the root of the repository, and its text.
struct Source {
    path: String,
    text: String,
}

/// Every text file below a folder of the repository; what is built, downloaded or written while running is none of its own.
fn sources(folder: &str) -> Vec<Source> {
    const NOT_OURS: [&str; 5] = [".git", "target", "strategies", "data", "node_modules"];
    let root = repository();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !NOT_OURS.contains(&name) {
                folders.push(path);
            } else if path.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path
                    .strip_prefix(&root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

fn host_sources() -> Vec<Source> {
    let mut sources = sources("host/src");
    sources.retain(|source| {
        Path::new(&source.path)
            .extension()
            .is_some_and(|extension| extension == "rs")
    });
    sources
}

/// The lines that are code and not prose, up to the file's own tests; numbered from 1.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let is_test = source.path.contains("/tests");
    let lines = source
        .text
        .lines()
        .zip(1..)
        .take_while(move |(line, _)| !is_test && *line != "#[cfg(test)]");
    lines
        .map(|(line, number)| (number, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Fails with every line of code that is wrong.
fn assert_no_line(rule: &str, wrong: impl Fn(&Source, &str) -> bool) {
    let sources = host_sources();
    let lines = sources
        .iter()
        .flat_map(|source| code(source).map(move |line| (source, line)));
    let found: Vec<String> = lines
        .filter(|(source, (_, line))| wrong(source, line))
        .map(|(source, (number, line))| format!("{}:{number}: {}", source.path, line.trim()))
        .collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn the_host_names_no_version() {
    assert_no_line("a version is named", |_, line| {
        // The prefix of products and orders is part of their address, and examples are documentation.
        let line = line
            .replace("/api/v1/products", "")
            .replace("/api/v1/orders", "");
        let is_example = line.contains("example = \"v");
        !is_example
            && ["v1", "v2", "v3"]
                .iter()
                .any(|version| names(&line, version))
    });
}

/// Whether a line holds this word by itself.
fn names(line: &str, word: &str) -> bool {
    let apart = |text: Option<char>| !text.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(place, _)| {
        apart(line[..place].chars().next_back()) && apart(line[place + word.len()..].chars().next())
    })
}

#[test]
fn each_outside_library_has_its_room() {
    let rooms: [(&str, &[&str]); 5] = [
        ("rdkafka", &["host/src/backend/kafka"]),
        ("sqlx", &["host/src/backend/"]),
        ("wasmtime", &["host/src/strategy", "host/src/capability"]),
        ("reqwest", &["host/src/plugin/remote.rs"]),
        ("axum", &["host/src/http", "host/src/app.rs"]),
    ];
    for (library, allowed) in rooms {
        assert_no_line(&format!("{library} outside its room"), |source, line| {
            let inside = allowed.iter().any(|room| source.path.starts_with(room));
            // A log filter names its target by text.
            !inside && names(line, library) && !line.contains(&format!("{library}=warn"))
        });
    }
}

#[test]
fn every_metric_of_the_catalogue_is_recorded() {
    let sources = host_sources();
    let catalogue = sources
        .iter()
        .find(|source| source.path.ends_with("telemetry/catalogue.rs"));
    let others: Vec<&Source> = sources
        .iter()
        .filter(|source| !source.path.ends_with("catalogue.rs"))
        .collect();
    let text = &catalogue.unwrap().text;
    let constants: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            line.trim()
                .split_once(" = \"")
                .map(|(constant, _)| constant)
        })
        .collect();
    assert_eq!(
        constants.len(),
        CATALOGUE.len(),
        "the catalogue is not read as it is written"
    );
    let unused = constants.iter().filter(|constant| {
        let used = |source: &&Source| code(source).any(|(_, line)| names(line, constant));
        !others.iter().any(used)
    });
    assert_eq!(unused.collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in host_sources() {
        assert!(
            source.text.starts_with("//! "),
            "{} does not open with `//!`",
            source.path
        );
    }
}

#[test]
fn no_file_knows_the_machine_that_it_was_written_on() {
    // Put together, so that this file does not find itself.
    let machine = [
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/ho", "me/"],
        ["/Us", "ers/"],
    ]
    .map(|parts| parts.concat());
    let found: Vec<String> = sources(".")
        .into_iter()
        .flat_map(|source| {
            let lines: Vec<String> = source
                .text
                .lines()
                .zip(1..)
                .filter(|(line, _)| machine.iter().any(|path| line.contains(path)))
                .map(|(line, number)| format!("{}:{number}: {}", source.path, line.trim()))
                .collect();
            lines
        })
        .collect();
    assert!(found.is_empty(), "machine paths:\n{}", found.join("\n"));
}
