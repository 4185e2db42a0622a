//! The broker as a process: start, kill, stop, restart, and what the system says about it.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Client, Failed, Home, Login, Outcome, RawConnection, wait_until};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
const HEALTH: Duration = Duration::from_secs(2);
/// Lines of the broker's log that are shown with a failure.
const LOG_LINES: usize = 40;

/// One `lockstep serve` with a data directory that survives `restart`.
#[derive(Debug)]
pub struct Broker {
    home: Arc<Home>,
    address: SocketAddr,
    directory: tempfile::TempDir,
    child: Mutex<Option<Child>>,
}

fn binary() -> Outcome<PathBuf> {
    let path = std::env::var_os("LOCKSTEP_BIN").map(PathBuf::from);
    path.filter(|path| path.is_file()).ok_or_else(|| Failed::new("LOCKSTEP_BIN names no broker"))
}

impl Broker {
    /// Starts a broker on a free port with the configuration of `home`.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub fn start(home: &Arc<Home>) -> Outcome<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let directory = tempfile::Builder::new().prefix("lockstep-broker-").tempdir()?;
        let broker = Self { home: home.clone(), address, directory, child: Mutex::new(None) };
        broker.launch()?;
        Ok(broker)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    fn launch(&self) -> Outcome {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(binary()?);
        // Settings of whoever runs the tests must not reach the broker.
        let settings: Vec<OsString> = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_string_lossy().starts_with("LOCKSTEP_"))
            .collect();
        for name in settings {
            command.env_remove(name);
        }
        let child = command
            .arg("serve")
            .arg("--listen")
            .arg(self.address.to_string())
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .arg("--config")
            .arg(self.home.configuration())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        *self.child() = Some(child);
        wait_until("a healthy broker", START, || {
            if self.exit_status().is_some() {
                return Some(Err(Failed::new(format!("the broker ended at start\n{}", self.log_tail()))));
            }
            self.healthy().then_some(Ok(()))
        })?
    }

    /// Whether `GET /health` says 200.
    #[must_use]
    pub fn healthy(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.address, HEALTH)?;
            stream.set_read_timeout(Some(HEALTH))?;
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok(status == *b"HTTP/1.1 200")
        };
        ask().unwrap_or(false)
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// SIGKILL: what a power cut is to the process.
    pub fn kill(&self) {
        if let Some(child) = self.child().as_mut() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and how it ended.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn stop(&self) -> Outcome<ExitStatus> {
        let pid = self.pid().ok_or_else(|| Failed::new("the broker was never started"))?;
        let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| Failed::new("no process id"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| Failed::new(format!("SIGTERM failed: {error}")))?;
        let ended = wait_until("the end after SIGTERM", STOP, || self.exit_status());
        if ended.is_err() {
            self.kill();
        }
        ended
    }

    /// Starts it again with the same port and data.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub fn restart(&self) -> Outcome {
        self.kill();
        self.launch()
    }

    fn pid(&self) -> Option<i32> {
        self.child().as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    fn proc(&self, name: &str) -> Outcome<PathBuf> {
        let pid = self.pid().ok_or_else(|| Failed::new("the broker was never started"))?;
        Ok(PathBuf::from(format!("/proc/{pid}/{name}")))
    }

    /// Resident memory in KiB (Linux).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn resident_kib(&self) -> Outcome<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most resident memory that it has had, in KiB (Linux).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn peak_kib(&self) -> Outcome<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> Outcome<u64> {
        let status = std::fs::read_to_string(self.proc("status")?)?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| Failed::new(format!("no {name} in /proc")))
    }

    /// KiB that it has written to files since it started (Linux).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn stored_kib(&self) -> Outcome<u64> {
        let io = std::fs::read_to_string(self.proc("io")?)?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
        line.and_then(|line| line.trim().parse::<u64>().ok())
            .map(|bytes| bytes >> 10)
            .ok_or_else(|| Failed::new("no write_bytes in /proc"))
    }

    /// All that its log holds, of every start.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self) -> Outcome<String> {
        Ok(std::fs::read_to_string(self.log_path())?)
    }

    /// Open files and sockets (Linux).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn open_files(&self) -> Outcome<usize> {
        Ok(std::fs::read_dir(self.proc("fd")?)?.count())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Configuration and keys.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection that may do everything.
    ///
    /// # Errors
    /// When it does not come to open.
    pub fn connect(&self) -> Outcome<Client> {
        self.connect_as(Login::plain("root", self.home.key("root")))
    }

    /// A connection.
    ///
    /// # Errors
    /// When it does not come to open.
    pub fn connect_as(&self, login: Login) -> Outcome<Client> {
        Client::connect(self.address, login)
    }

    /// A connection without any frames yet.
    ///
    /// # Errors
    /// When there is nobody.
    pub fn connect_raw(&self) -> Outcome<RawConnection> {
        RawConnection::connect(self.address)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
