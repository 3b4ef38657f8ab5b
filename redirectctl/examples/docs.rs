//! Writes the generated blocks of `README.md` and `docs/` anew: `cargo xtask docs`.
#![expect(
    clippy::print_stdout,
    reason = "a developer's tool: it names the files that it changed"
)]

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use redirectctl::docs::refresh;

fn main() -> Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().unwrap_or(package);
    let mut pages = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs")).context("list docs")? {
        pages.push(entry.context("list docs")?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|kind| kind == "md"));
    for page in pages {
        let shown = || page.display().to_string();
        let text = fs::read_to_string(&page).with_context(shown)?;
        let fresh = refresh(&text);
        if fresh != text {
            fs::write(&page, fresh).with_context(shown)?;
            println!("changed {}", shown());
        }
    }
    Ok(())
}
