//! An agent that loses one of its tasks ends, so that it is restarted.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    panic::resume_unwind, path::Path, process::ExitCode, sync::mpsc, thread, time::Duration,
};

use redirect_agent::{
    run::{Options, run},
    source::{OpenedSource, Source, SourceEvent},
};
use redirect_testkit::{
    GuardedFolder, helper, missing_or_fail,
    runner::{self, trial},
};

/// Longer than any wait of these tests.
const LONG: Duration = Duration::from_secs(30);

/// A source that sends an empty snapshot, and then panics.
struct Dying {
    has_said: bool,
}

impl Source for Dying {
    fn name(&self) -> &'static str {
        "dying"
    }

    async fn next(&mut self) -> SourceEvent {
        if self.has_said {
            // A panic that prints no message.
            resume_unwind(Box::new("the end of a source"));
        }
        self.has_said = true;
        SourceEvent::Snapshot(Vec::new())
    }
}

fn main() -> ExitCode {
    helper::intercept();
    let name = "an_agent_whose_source_has_died_ends_with_an_error";
    let died = || {
        an_agent_whose_source_has_died_ends_with_an_error();
        Ok(())
    };
    runner::run(missing_or_fail(&[]).map(|reason| vec![trial(name, reason.as_ref(), died)]))
}

fn an_agent_whose_source_has_died_ends_with_an_error() {
    let name = format!("redirect-agent-run-{}", std::process::id());
    let bpffs = Path::new("/sys/fs/bpf");
    let folders = [name.clone(), format!("{name}-lock")].map(|name| bpffs.join(name));
    let _guards = folders.map(|path| GuardedFolder::guard(&path).unwrap());
    let options = Options {
        state_dir: bpffs.join(name),
        listen: Some(([127, 0, 0, 1], 0).into()),
        cni_socket: None,
        proxy_grace: LONG,
        once: false,
        detach_on_exit: false,
    };
    let (sender, receiver) = mpsc::channel();
    // The thread is not joined: if the agent does not end, the receiver times out.
    thread::spawn(move || {
        sender.send(run(
            async { Ok(OpenedSource::alone(Dying { has_said: false })) },
            &options,
        ))
    });
    let error = receiver.recv_timeout(LONG).unwrap().unwrap_err();
    let error = format!("{error:#}");
    for words in ["the source has ended: ", "the end of a source"] {
        assert!(error.contains(words), "{error}");
    }
}
