//! What runs beside the loop. Without any part of it this is no agent that anybody should take for one:
//! the agent ends, and the next one goes on with what is attached.

use std::{collections::HashMap, future};

use anyhow::{Error, anyhow};
use tokio::task::{Id, JoinSet};

/// What runs beside the loop. Nothing of it ends by itself before the agent is told to stop.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Runs something, by name.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(work).id();
        self.names.insert(id, name);
    }

    /// Runs something that waits in a thread of its own.
    pub(super) fn spawn_blocking(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) {
        let id = self.tasks.spawn_blocking(work).id();
        self.names.insert(id, name);
    }

    /// Waits until something has ended, and says what.
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

    /// Ends everything; what is in a thread has been told to stop, and is waited for.
    pub(super) async fn shutdown(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}
