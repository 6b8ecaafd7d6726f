//! The sockets for queries, and the lock beside them: opened at the start, and again after someone has removed them.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::unistd;
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle},
};

use crate::daemon::announcer::Announcer;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::state::reports::Observer as _;
use crate::daemon::host::instance::{Instance, InstanceError};
use crate::{
    model::Uid,
    report::Event,
    socket::{self, SocketFile},
    status::{self, Access, AccessPolicy, PendingRequest},
};

/// The socket for queries, while there is one to listen at.
struct StatusSocket {
    asked: mpsc::Sender<PendingRequest>,
    path: Option<PathBuf>,
    listening: Option<Listening>,
}

/// A socket that listens. Dropping it stops the server.
struct Listening {
    file: SocketFile,
    policy: AccessPolicy,
    server: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl StatusSocket {
    /// No socket yet. Queries will go to `asked`.
    const fn new(asked: mpsc::Sender<PendingRequest>) -> Self {
        Self { asked, path: None, listening: None }
    }

    /// Listens at `path` from now on, in the current runtime, with this access.
    fn listen(&mut self, path: &Path, access: Access) -> io::Result<()> {
        self.path = Some(path.to_owned());
        socket::trusted(path)?;
        let (file, listener) = SocketFile::take(path)?;
        let policy = AccessPolicy::new(access);
        let own = Uid(unistd::geteuid().as_raw());
        let server =
            task::spawn(status::serve(listener, policy.clone(), own, self.asked.clone())).abort_handle();
        let listening = self.listening.insert(Listening { file, policy, server });
        listening.file.admit(access.group)
    }

    /// Grants this access instead of the former one.
    fn admit(&self, access: Access) -> io::Result<()> {
        let Some(Listening { file, policy, .. }) = &self.listening else { return Ok(()) };
        policy.admit(access);
        file.admit(access.group)
    }

    /// The path at which clients do not find the socket, if there should be one.
    fn missing(&self) -> Option<PathBuf> {
        let is_in_place = self.listening.as_ref().is_some_and(|listening| listening.file.is_in_place());
        self.path.clone().filter(|_| !is_in_place)
    }
}

/// The socket at which every user may ask about that user's own processes, while there is one. Dropping it stops the server.
struct MineSocket {
    file: SocketFile,
    server: AbortHandle,
}

impl MineSocket {
    fn listen(path: &Path, asked: mpsc::Sender<PendingRequest>) -> io::Result<Self> {
        socket::trusted(path)?;
        let (file, listener) = SocketFile::take(path)?;
        file.admit_everybody()?;
        let server = task::spawn(status::serve_mine(listener, asked)).abort_handle();
        Ok(Self { file, server })
    }
}

impl Drop for MineSocket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The files in memmon's runtime directory: the lock, unless this is a look beside another memmon, and the sockets.
pub(super) struct RuntimeFiles<'a> {
    instance: Option<&'a Instance>,
    socket: StatusSocket,
    mine: Option<MineSocket>,
}

impl<'a> RuntimeFiles<'a> {
    /// The files of an `instance`, and the queue of queries, for a socket that listens at nothing yet.
    pub(super) fn new(instance: Option<&'a Instance>) -> (Self, mpsc::Receiver<PendingRequest>) {
        let (asked, requests) = mpsc::channel(1);
        (Self { instance, socket: StatusSocket::new(asked), mine: None }, requests)
    }

    /// Starts to listen at `socket`, with this access. memmon watches even if that fails.
    pub(super) fn listen(&mut self, socket: &Path, access: Access, announcer: &Announcer<'_>) {
        report_socket(self.socket.listen(socket, access), announcer);
        self.listen_for_users(access, announcer);
    }

    /// Grants this access instead of the former one.
    pub(super) fn admit(&mut self, access: Access, announcer: &Announcer<'_>) {
        report_socket(self.socket.admit(access), announcer);
        self.listen_for_users(access, announcer);
    }

    /// Listens for users that ask about their own processes, or stops that, as far as it is not so yet.
    fn listen_for_users(&mut self, access: Access, announcer: &Announcer<'_>) {
        let Some(path) = self.socket.path.as_ref().filter(|_| access.mine) else {
            self.mine = None;
            return announcer.works(Degradation::NoMine);
        };
        if self.mine.as_ref().is_some_and(|mine| mine.file.is_in_place()) {
            return;
        }
        // The old socket first: its place may be taken again.
        self.mine = None;
        match MineSocket::listen(&path.with_file_name(status::MINE_SOCKET), self.socket.asked.clone()) {
            Ok(mine) => {
                self.mine = Some(mine);
                announcer.works(Degradation::NoMine);
            }
            Err(error) => announcer.degraded(Degradation::NoMine, || {
                format!("users cannot see their own processes with `memmon status --mine`: {error}")
            }),
        }
    }

    /// Creates the lock and the socket again if someone has removed them, as `rm -r /run/memmon` does.
    pub(super) fn restore(&mut self, access: Access, announcer: &Announcer<'_>) {
        if let Some(instance) = self.instance {
            restore_lock(instance, announcer);
        }
        let Some(path) = self.socket.missing() else { return self.listen_for_users(access, announcer) };
        let was_reported = announcer.is_degraded(Degradation::NoStatus);
        self.listen(&path, access, announcer);
        if !was_reported && !announcer.is_degraded(Degradation::NoStatus) {
            let what = format!("{} was removed: memmon listens there again", path.display());
            announcer.event(Event::Degraded { what });
        }
    }
}

fn restore_lock(instance: &Instance, announcer: &Announcer<'_>) {
    match instance.restore() {
        Ok(None) => announcer.works(Degradation::NoLock),
        Ok(Some(path)) => {
            announcer.works(Degradation::NoLock);
            let what = format!("{} was removed: memmon has created it again", path.display());
            announcer.event(Event::Degraded { what });
        }
        Err(InstanceError::Taken { pid }) => announcer.degraded(Degradation::NoLock, || {
            let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            format!("the lock of this memmon was removed, and another memmon{pid} has started since: stop one of them")
        }),
        Err(error) => announcer.degraded(Degradation::NoLock, || {
            format!("the lock was removed, so that a second memmon could start: {error}{RELOAD}")
        }),
    }
}

fn report_socket(outcome: io::Result<()>, announcer: &Announcer<'_>) {
    match outcome {
        Ok(()) => announcer.works(Degradation::NoStatus),
        Err(error) => announcer.degraded(Degradation::NoStatus, || {
            let help = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    " (under systemd, which lets it give nothing away: `systemctl edit memmon`, and Group= with that group \
                     under [Service])"
                }
                io::ErrorKind::ReadOnlyFilesystem => RELOAD,
                _ => "",
            };
            format!("`memmon status` and `memmon top` are for root only, or for nobody: {error}{help}")
        }),
    }
}

/// The remedy if the unit keeps memmon from creating its runtime directory again.
const RELOAD: &str = " (`systemctl reload memmon` creates /run/memmon again; with systemd before 248, `systemctl restart memmon` does)";
