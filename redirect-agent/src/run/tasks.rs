//! The tasks beside the control loop. If one of them ends, the agent ends with an error, and the next agent
//! continues: an agent that lacks a part must not pass for a whole one.

use std::{collections::HashMap, future};

use anyhow::{Error, anyhow};
use tokio::task::{Id, JoinSet};

/// The tasks beside the control loop. None ends by itself before the agent is stopped.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Spawns a task with a name.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(work).id();
        self.names.insert(id, name);
    }

    /// Spawns a task that blocks, on a thread of its own.
    pub(super) fn spawn_blocking(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) {
        let id = self.tasks.spawn_blocking(work).id();
        self.names.insert(id, name);
    }

    /// Waits until a task ends, and returns an error that names it.
    pub(super) async fn first_exit(&mut self) -> Error {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return future::pending().await;
        };
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let message = format!("{} has ended", self.names.get(&id).unwrap_or(&"a task"));
        match ended {
            Ok(_) => anyhow!(message),
            Err(error) => Error::new(error).context(message),
        }
    }

    /// Aborts the tasks, and waits for those that block: they have been told to stop.
    pub(super) async fn shutdown(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}
