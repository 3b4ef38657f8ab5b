//! The steps of a long command: announced, timed, and summed up at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The steps done so far.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<Step>);

#[derive(Debug)]
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
}

impl Steps {
    /// Does one step, and returns whether it passed. Prints the error; `finish` counts it.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        println!("==> {name}");
        let start = Instant::now();
        let done = work();
        let passed = done.is_ok();
        if let Err(err) = done {
            eprintln!("error: {name}: {err:#}");
        }
        self.0.push(Step {
            name,
            passed,
            took: start.elapsed(),
        });
        passed
    }

    /// Prints the time of each step. The error names the steps that failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!();
        for Step { name, passed, took } in &self.0 {
            let verdict = if *passed { "passed" } else { "FAILED" };
            println!("{verdict}  {:>7.1} s  {name}", took.as_secs_f64());
        }
        let failed: Vec<&str> = self
            .0
            .iter()
            .filter(|step| !step.passed)
            .map(|step| step.name)
            .collect();
        if !failed.is_empty() {
            bail!(
                "{} of {} steps failed: {}",
                failed.len(),
                self.0.len(),
                failed.join(", ")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_at_the_end() {
        let mut steps = Steps::default();
        assert!(steps.step("first", || Ok(())));
        assert!(!steps.step("second", || bail!("broken")));
        assert_eq!(
            steps.finish().unwrap_err().to_string(),
            "1 of 2 steps failed: second"
        );
    }
}
