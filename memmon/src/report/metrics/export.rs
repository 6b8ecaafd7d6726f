//! The threads that carry metrics out of the house. They end when the [`Exports`] are dropped.

use std::{
    fs, io,
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Metrics, MetricsOutputs, http::MetricsServer, textfile};
use crate::{
    model::Listen,
    report::{Event, EventSender, advice::advised},
};

/// Time between two writes of the textfile: Prometheus asks node_exporter about as often.
const EVERY: Duration = Duration::from_secs(15);
/// Between two attempts to listen.
const AGAIN: Duration = Duration::from_secs(5);

/// The exports that run.
#[derive(Default)]
pub(in crate::report) struct Exports {
    outputs: MetricsOutputs,
    textfile: Option<Thread<Sender<()>>>,
    listener: Option<Thread<oneshot::Sender<()>>>,
}

/// A thread that ends when this is dropped.
struct Thread<Stop> {
    _stop: Stop,
    /// Hangs up when it has ended.
    done: Receiver<()>,
}

impl Exports {
    /// Starts what `outputs` ask for and ends what they do not; what stays as it was goes on. Errors are reported
    /// through `sender`.
    pub(in crate::report) fn follow(
        &mut self,
        outputs: MetricsOutputs,
        metrics: &Metrics,
        sender: &EventSender,
    ) -> io::Result<()> {
        let MetricsOutputs { textfile, listen } = &outputs;
        if *textfile != self.outputs.textfile {
            self.textfile =
                textfile.clone().map(|path| write(path, metrics.clone(), sender.clone())).transpose()?;
        }
        if *listen != self.outputs.listen {
            self.listener =
                listen.clone().map(|address| serve(address, metrics.clone(), sender.clone())).transpose()?;
        }
        self.outputs = outputs;
        Ok(())
    }

    /// Ends all of it and takes away what others could take for figures of a memmon that runs. Waits for that until
    /// `deadline`.
    pub(in crate::report) fn finish(self, deadline: Instant) {
        // Both are stopped before the first is waited for.
        let done = [self.textfile.map(|thread| thread.done), self.listener.map(|thread| thread.done)];
        for done in done.into_iter().flatten() {
            let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// Writes the textfile from now on, until what is given is dropped.
fn write(path: PathBuf, metrics: Metrics, sender: EventSender) -> io::Result<Thread<Sender<()>>> {
    let (stop, stopped) = mpsc::channel::<()>();
    let (hang_up, done) = mpsc::channel();
    let work = move || {
        loop {
            let text = textfile::text_format(&metrics.openmetrics());
            if let Err(error) = textfile::replace(&path, &text) {
                let what = format!("metrics cannot be written to {}: {}", path.display(), advised(&error));
                sender.emit(Event::Degraded { what });
            }
            if stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                // node_exporter would continue to publish old figures.
                let _ = fs::remove_file(&path);
                drop(hang_up);
                return;
            }
        }
    };
    thread::Builder::new().name("memmon-textfile".into()).spawn(work)?;
    Ok(Thread { _stop: stop, done })
}

/// Listens from now on, until what is given is dropped.
fn serve(address: Listen, metrics: Metrics, sender: EventSender) -> io::Result<Thread<oneshot::Sender<()>>> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (hang_up, done) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listen = async move {
        let mut reported = None;
        loop {
            match MetricsServer::open(&address).await {
                Ok(server) => {
                    reported = None;
                    server.serve(metrics.clone()).await;
                    let what =
                        format!("the socket for metrics, {address}, was removed: memmon creates it again");
                    sender.emit(Event::Degraded { what });
                }
                Err(error) => {
                    let what = format!("metrics cannot be served at {address}: {}", advised(&error));
                    // Once until it works, or fails for another reason.
                    if reported.as_ref() != Some(&what) {
                        sender.emit(Event::Degraded { what: what.clone() });
                        reported = Some(what);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                () = listen => {}
                _ = stopped => {}
            }
        });
        drop(hang_up);
    };
    thread::Builder::new().name("memmon-metrics".into()).spawn(work)?;
    Ok(Thread { _stop: stop, done })
}
