//! A maximum of clients at once, so that no number of them costs more than memmon can give.

use std::{collections::VecDeque, future::Future, time::Duration};

use tokio::{
    task::{self, AbortHandle},
    time,
};

/// Minimum time between two connections.
const BETWEEN_CLIENTS: Duration = Duration::from_millis(2);
/// Pause after a failed accept: a temporary lack of descriptors, in which a server must not spin.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The clients of a server, each with a task of its own.
#[derive(Debug)]
pub struct Clients {
    most: usize,
    tasks: VecDeque<AbortHandle>,
}

impl Clients {
    /// Has room for `most` clients at once.
    pub fn new(most: usize) -> Self {
        Self { most, tasks: VecDeque::with_capacity(most) }
    }

    /// Serves one more client in the current runtime. If there is no room, the oldest client is disconnected: it is the
    /// least likely to send anything, and one that does connects again.
    pub async fn serve(&mut self, client: impl Future<Output = ()> + Send + 'static) {
        self.tasks.retain(|task| !task.is_finished());
        if self.tasks.len() >= self.most
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
        self.tasks.push_back(task::spawn(client).abort_handle());
        self.pause().await;
    }

    /// Waits until the next client may connect.
    pub async fn pause(&self) {
        time::sleep(BETWEEN_CLIENTS).await;
    }

    /// Waits after an accept that failed.
    pub async fn failed(&self) {
        time::sleep(AFTER_FAILURE).await;
    }
}
