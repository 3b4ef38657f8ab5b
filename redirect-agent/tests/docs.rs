//! The documentation of the agent: its examples are valid, and complete.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use redirect_agent::{
    cli::command,
    source::{FileSource, Source as _, SourceEvent, kube::Mesh},
};

fn page(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(name)).unwrap()
}

/// The pages with examples.
fn pages() -> [String; 3] {
    ["README.md", "docs/agent.md", "docs/kubernetes.md"].map(page)
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    let blocks = text.split(&open).skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn documented_command_lines_parse() {
    let mut count = 0;
    for text in pages() {
        for line in text.lines() {
            let shown = line.strip_prefix("$ redirect-agent ").or_else(|| {
                let (_, arguments) = line.split_once("/usr/local/bin/redirect-agent ")?;
                arguments.split('`').next()
            });
            let Some(arguments) = shown else {
                continue;
            };
            count += 1;
            let words = ["redirect-agent"].into_iter().chain(arguments.split(' '));
            let parsed = command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
    assert!(count >= 5, "only {count} command lines found");
}

#[test]
fn every_command_is_documented() {
    let text = page("docs/agent.md");
    for subcommand in command().get_subcommands() {
        let about = subcommand.get_about().unwrap();
        let row = format!("| `{}` | {about} |", subcommand.get_name());
        assert!(text.contains(&row), "no line {row}");
    }
}

#[test]
fn the_documented_mesh_is_valid() {
    let text = page("docs/kubernetes.md");
    let shown = blocks(&text, "yaml");
    let [mesh] = shown
        .iter()
        .filter(|block| block.contains("excludeNamespaces:"))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{shown:?}");
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("redirect-agent-mesh-{}", std::process::id()));
    fs::write(&file, mesh).unwrap();
    let read = Mesh::read(&file, &|_: &str| None);
    fs::remove_file(&file).unwrap();
    assert_ne!(read.unwrap(), Mesh::default());
}

#[tokio::test]
async fn documented_workload_files_are_valid() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("redirect-agent-docs-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    let pages = pages();
    let shown = pages.iter().flat_map(|text| blocks(text, "yaml"));
    let names_a_place = |block: &&str| block.starts_with("unit:") || block.starts_with("cgroup:");
    for block in shown.filter(names_a_place) {
        let file = folder.join(format!("{}.yaml", files.len()));
        fs::write(&file, block).unwrap();
        files.push(file);
    }
    let event = FileSource::new(&folder).next().await;
    fs::remove_dir_all(&folder).unwrap();
    let workloads = match event {
        SourceEvent::Snapshot(workloads) => workloads,
        SourceEvent::Changed(_) | SourceEvent::Removed(_) | SourceEvent::Unavailable(_) => {
            Vec::new()
        }
    };
    assert!(!files.is_empty());
    assert_eq!(workloads.len(), files.len());
    for workload in workloads {
        assert!(workload.policy.is_ok(), "{workload:?}");
    }
}
