//! The threads that carry metrics out of the house. They end when the [`Exports`] are dropped.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Metrics, MetricsOutputs, http::Door, textfile};
use crate::report::{Event, Teller};

/// How often the textfile is written: Prometheus asks node_exporter about as often.
const EVERY: Duration = Duration::from_secs(15);
/// Between two attempts to listen.
const AGAIN: Duration = Duration::from_secs(60);

/// What runs for one configuration.
pub(in crate::report) struct Exports {
    outputs: MetricsOutputs,
    _textfile: Option<Sender<()>>,
    _listener: Option<oneshot::Sender<()>>,
}

impl Exports {
    /// Starts what `outputs` asks for. What goes wrong is told by `teller`.
    pub(in crate::report) fn start(
        outputs: MetricsOutputs,
        metrics: &Metrics,
        teller: &Teller,
    ) -> io::Result<Self> {
        let MetricsOutputs { textfile, listen } = outputs.clone();
        let _textfile = textfile
            .map(|path| {
                let (stop, stopped) = mpsc::channel::<()>();
                let (metrics, teller) = (metrics.clone(), teller.clone());
                let work = move || {
                    loop {
                        let text = textfile::text_format(&metrics.openmetrics());
                        if let Err(error) = textfile::replace(&path, &text) {
                            let what = format!("metrics cannot be written to {}: {error}", path.display());
                            teller.tell(Event::Degraded { what });
                        }
                        if stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                            return;
                        }
                    }
                };
                thread::Builder::new().name("memmon-textfile".into()).spawn(work).map(|_| stop)
            })
            .transpose()?;
        let _listener = listen
            .map(|address| {
                let (stop, stopped) = oneshot::channel::<()>();
                let (metrics, teller) = (metrics.clone(), teller.clone());
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let work = async move {
                    loop {
                        match Door::open(&address).await {
                            Ok(door) => door.serve(metrics.clone()).await,
                            Err(error) => {
                                let what = format!("metrics cannot be served at {address}: {error}");
                                teller.tell(Event::Degraded { what });
                            }
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                };
                let work = move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = work => {}
                            _ = stopped => {}
                        }
                    });
                };
                thread::Builder::new().name("memmon-metrics".into()).spawn(work).map(|_| stop)
            })
            .transpose()?;
        Ok(Self { outputs, _textfile, _listener })
    }

    /// Whether they are what `outputs` asks for.
    pub(in crate::report) fn are(&self, outputs: &MetricsOutputs) -> bool {
        self.outputs == *outputs
    }
}
