//! `deploy/env.example` is the manual of the settings: it names every variable that the sources read, and no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use e2e::system::Folders;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A name as variables have them: two words at least, or one of the well-known single ones.
fn is_variable(text: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    text == "PORT" || (text.contains('_') && text.split('_').all(word))
}

/// The literals of a file that are names of variables, when it reads settings; its tests aside.
fn read_by(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    if !code.contains("env::{Env") && !code.contains("env::Env") {
        return BTreeSet::new();
    }
    let code =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let literals = code.split('"').skip(1).step_by(2);
    literals.filter(|text| is_variable(text)).map(str::to_owned).collect()
}

fn read_by_the_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for package in ["shared", "edge", "worker"] {
        let folder = root().join(package).join("src");
        let sources = Folders::files(&folder).into_iter().filter(|file| {
            file.extension().is_some_and(|ending| ending == "rs") && !file.ends_with("tests.rs")
        });
        for source in sources {
            names.extend(read_by(
                &std::fs::read_to_string(folder.join(source)).expect("a source that was just listed"),
            ));
        }
    }
    names
}

/// Lines of the form `NAME=value`, commented or not.
fn named_by_the_example() -> BTreeSet<String> {
    let example = std::fs::read_to_string(root().join("deploy/env.example")).expect("deploy/env.example");
    let name = |line: &str| {
        let (name, _) = line.trim_start_matches("# ").split_once('=')?;
        is_variable(name).then(|| name.to_owned())
    };
    example.lines().filter_map(name).collect()
}

#[test]
fn the_example_of_the_environment_names_what_the_sources_read_and_nothing_else() {
    let (read, named) = (read_by_the_sources(), named_by_the_example());
    assert!(read.len() > 20, "{read:?}");
    let unnamed: Vec<_> = read.difference(&named).collect();
    let unread: Vec<_> = named.difference(&read).collect();
    assert!(
        unnamed.is_empty() && unread.is_empty(),
        "read but not named: {unnamed:?}; named but not read: {unread:?}"
    );
}

#[test]
fn names_are_found_wherever_they_are_read() {
    let source = "use shared::env::{Env, EnvError};\n// \"NOT_THIS\"\nfn f() { env.optional(\"A_B\"); rate(\n\"C_1\", \"a word\") }\n#[cfg(test)]\nmod tests { \"X_Y\" }";
    assert_eq!(read_by(source), ["A_B", "C_1"].map(str::to_owned).into());
    assert!(read_by("fn f() { \"A_B\" }").is_empty());
}
