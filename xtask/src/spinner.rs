//! The progress of a long program: a spinner on a terminal, one plain line elsewhere.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner, shown until dropped.
#[derive(Debug)]
pub(crate) struct Spinner(Option<ProgressBar>);

impl Spinner {
    /// Shows the text of a task.
    pub(crate) fn start(task: &str) -> Self {
        if !stderr().is_terminal() {
            eprintln!("           {task}");
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message(task.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner}          {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
