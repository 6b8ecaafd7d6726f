//! The socket for queries, and the lock beside it: opened at the start, and again after someone has removed them.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::unistd;
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle},
};

use crate::daemon::event_loop::{Daemon, Degradation};
use crate::daemon::host::instance::InstanceError;
use crate::{
    model::Uid,
    report::Event,
    socket::{self, SocketFile},
    status::{self, AccessPolicy, Request},
};

/// The socket for queries, while there is one to listen at.
pub(super) struct StatusSocket {
    asked: mpsc::Sender<Request>,
    path: Option<PathBuf>,
    listening: Option<Listening>,
}

/// A socket that listens. Dropping it stops the server.
struct Listening {
    file: SocketFile,
    access: AccessPolicy,
    server: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl StatusSocket {
    /// No socket yet. Queries will go to `asked`.
    pub(super) const fn new(asked: mpsc::Sender<Request>) -> Self {
        Self { asked, path: None, listening: None }
    }

    /// Listens at `path` from now on, in the current runtime, for root and for `group`.
    fn listen(&mut self, path: &Path, group: Option<u32>) -> io::Result<()> {
        self.path = Some(path.to_owned());
        socket::trusted(path)?;
        let (file, listener) = SocketFile::take(path)?;
        let access = AccessPolicy::new(group);
        let own = Uid(unistd::geteuid().as_raw());
        let server =
            task::spawn(status::serve(listener, access.clone(), own, self.asked.clone())).abort_handle();
        let listening = self.listening.insert(Listening { file, access, server });
        listening.file.admit(group)
    }

    /// Grants queries to this group instead of the former one.
    fn admit(&self, group: Option<u32>) -> io::Result<()> {
        let Some(Listening { file, access, .. }) = &self.listening else { return Ok(()) };
        access.admit(group);
        file.admit(group)
    }

    /// The path at which clients do not find the socket, if there should be one.
    fn missing(&self) -> Option<PathBuf> {
        let is_in_place = self.listening.as_ref().is_some_and(|listening| listening.file.is_in_place());
        self.path.clone().filter(|_| !is_in_place)
    }
}

impl Daemon<'_> {
    /// Starts to listen at `socket`. memmon watches even if that fails.
    pub(super) fn listen(&mut self, socket: &Path) {
        let group = self.settings.status.gid;
        let listens = self.board.borrow_mut().socket.listen(socket, group);
        self.report_socket(listens);
    }

    /// Grants queries to the group of the settings, and no longer to the former one.
    pub(super) fn admit(&mut self) {
        let admitted = self.board.borrow().socket.admit(self.settings.status.gid);
        self.report_socket(admitted);
    }

    /// Creates the lock and the socket again if someone has removed them, as `rm -r /run/memmon` does.
    pub(super) fn restore_runtime_files(&mut self) {
        if let Some(instance) = self.instance {
            match instance.restore() {
                Ok(None) => self.works(Degradation::NoLock),
                Ok(Some(path)) => {
                    self.works(Degradation::NoLock);
                    let what = format!("{} was removed: memmon has created it again", path.display());
                    self.tell(Event::Degraded { what });
                }
                Err(InstanceError::Taken { pid }) => self.degraded(Degradation::NoLock, || {
                    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                    format!("the lock of this memmon was removed, and another memmon{pid} has started since: stop one of them")
                }),
                Err(error) => self.degraded(Degradation::NoLock, || {
                    format!("the lock was removed, so that a second memmon could start: {error}{RESTART}")
                }),
            }
        }
        let Some(path) = self.board.borrow().socket.missing() else { return };
        let was_reported = self.is_seen(Degradation::NoStatus);
        self.listen(&path);
        if !was_reported && !self.is_seen(Degradation::NoStatus) {
            let what = format!("{} was removed: memmon listens there again", path.display());
            self.tell(Event::Degraded { what });
        }
    }

    fn report_socket(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.works(Degradation::NoStatus),
            Err(error) => self.degraded(Degradation::NoStatus, || {
                let help = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        " (under systemd, which lets it give nothing away: `systemctl edit memmon`, and Group= with that group \
                         under [Service])"
                    }
                    io::ErrorKind::ReadOnlyFilesystem => RESTART,
                    _ => "",
                };
                format!("`memmon status` and `memmon top` are for root only, or for nobody: {error}{help}")
            }),
        }
    }
}

/// What helps if the unit keeps memmon from creating its runtime directory again.
const RESTART: &str =
    " (systemd creates /run/memmon only when the service starts: `systemctl restart memmon`)";
