//! The threads that carry metrics out of the house. They end when the [`Exports`] are dropped.

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Metrics, MetricsOutputs, http::Door, textfile};
use crate::{
    model::Listen,
    report::{Event, Teller, advice::advised},
};

/// How often the textfile is written: Prometheus asks node_exporter about as often.
const EVERY: Duration = Duration::from_secs(15);
/// Between two attempts to listen.
const AGAIN: Duration = Duration::from_secs(60);

/// What runs.
#[derive(Default)]
pub(in crate::report) struct Exports {
    outputs: MetricsOutputs,
    _textfile: Option<Sender<()>>,
    _listener: Option<oneshot::Sender<()>>,
}

impl Exports {
    /// Starts what `outputs` ask for and ends what they do not; what stays as it was goes on. What goes wrong is told
    /// by `teller`.
    pub(in crate::report) fn follow(
        &mut self,
        outputs: MetricsOutputs,
        metrics: &Metrics,
        teller: &Teller,
    ) -> io::Result<()> {
        let MetricsOutputs { textfile, listen } = &outputs;
        if *textfile != self.outputs.textfile {
            self._textfile =
                textfile.clone().map(|path| write(path, metrics.clone(), teller.clone())).transpose()?;
        }
        if *listen != self.outputs.listen {
            self._listener =
                listen.clone().map(|address| serve(address, metrics.clone(), teller.clone())).transpose()?;
        }
        self.outputs = outputs;
        Ok(())
    }
}

/// Writes the textfile from now on, until what is given is dropped.
fn write(path: PathBuf, metrics: Metrics, teller: Teller) -> io::Result<Sender<()>> {
    let (stop, stopped) = mpsc::channel::<()>();
    let work = move || {
        loop {
            let text = textfile::text_format(&metrics.openmetrics());
            if let Err(error) = textfile::replace(&path, &text) {
                let what = format!("metrics cannot be written to {}: {}", path.display(), advised(&error));
                teller.tell(Event::Degraded { what });
            }
            if stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    };
    thread::Builder::new().name("memmon-textfile".into()).spawn(work).map(|_| stop)
}

/// Listens from now on, until what is given is dropped.
fn serve(address: Listen, metrics: Metrics, teller: Teller) -> io::Result<oneshot::Sender<()>> {
    let (stop, stopped) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listen = async move {
        loop {
            match Door::open(&address).await {
                Ok(door) => door.serve(metrics.clone()).await,
                Err(error) => {
                    let what = format!("metrics cannot be served at {address}: {}", advised(&error));
                    teller.tell(Event::Degraded { what });
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                () = listen => {}
                _ = stopped => {}
            }
        });
    };
    thread::Builder::new().name("memmon-metrics".into()).spawn(work).map(|_| stop)
}
