//! How long the broker takes to start, and how much memory it takes when nobody uses it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{args::StartArgs, clock::Stopwatch, process, report::Report};

/// How often /health is asked while the broker starts.
const ASK_INTERVAL: Duration = Duration::from_millis(1);

/// A broker that is not healthy after this time is given up, in seconds.
const START_WAIT_S: f64 = 60.0;

/// How long an answer of /health may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Bytes read of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// One queue, so that the start includes making one.
const CONFIG: &str = r#"[[namespace]]
name = "bench"
[[namespace.policy]]
name = "RootManageSharedAccessKey"
primary_key = "bench-only-key"
rights = ["Manage", "Send", "Listen"]
[[namespace.queue]]
name = "bench-0"
"#;

/// A process that is asked to end, and waited for, when it goes out of scope.
struct Broker(Child);

impl Broker {
    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // It may have ended already.
        let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _status = self.0.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A directory that goes away with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// Starts the broker once.
///
/// # Errors
/// When it does not start, or its directory is not empty.
pub(super) fn run(args: &StartArgs) -> Result<Report> {
    let watch = Stopwatch::start();
    let scratch = Scratch(std::env::temp_dir().join(format!("lockstep-bench-{}", std::process::id())));
    fs::create_dir_all(&scratch.0).context("cannot make a temporary directory")?;
    let data_dir = args.data_dir.clone().unwrap_or_else(|| scratch.0.join("data"));
    let empty = fs::read_dir(&data_dir).map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, "{} is not empty", data_dir.display());
    let config = match &args.config {
        Some(config) => config.clone(),
        None => scratch.0.join("lockstep.toml"),
    };
    if args.config.is_none() {
        fs::write(&config, CONFIG).context("cannot write a configuration")?;
    }
    let bin = match &args.bin {
        Some(bin) => bin.clone(),
        None => std::env::current_exe().context("cannot find this program")?,
    };
    let port = free_port()?;
    let before = watch.seconds();
    let mut broker = start(&bin, &config, &data_dir, port)?;
    while !is_healthy(port) {
        if let Some(status) = broker.0.try_wait()? {
            anyhow::bail!("{} ended with {status} instead of serving", bin.display());
        }
        ensure!(watch.seconds() - before < START_WAIT_S, "{} did not become healthy", bin.display());
        thread::sleep(ASK_INTERVAL);
    }
    let seconds = watch.seconds() - before;
    thread::sleep(Duration::from_secs(args.idle));
    let resident = process::resident_bytes(broker.0.id())?;
    let mut report = Report::new("start");
    report.measure("start_ms", seconds * 1e3, "ms");
    report.measure("idle_rss_mb", resident as f64 / 1e6, "MB");
    report.put("idle_after_s", args.idle, "s");
    broker.stop();
    Ok(report)
}

fn start(bin: &Path, config: &Path, data_dir: &Path, port: u16) -> Result<Broker> {
    let child = Command::new(bin)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .arg("--data-dir")
        .arg(data_dir)
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        // Only what goes wrong is of interest here.
        .env("LOCKSTEP_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", bin.display()))?;
    Ok(Broker(child))
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

fn is_healthy(port: u16) -> bool {
    ask(port).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

fn ask(port: u16) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WAIT)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}
