//! The attacker's process: this program again, in another role.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lockstep_interop_amqp::{
    Failed, Home, Outcome,
    attacks::{ATTACKS, Ground, Watcher},
    wait_until,
};

/// How much an attacker stands back (as `nice` means it) where processors are short. It would have
/// its own elsewhere; here it must not take the quiet client's, nor win by keeping the broker from
/// running.
const NICENESS: i32 = 19;
/// First argument of an attacker.
pub(crate) const ROLE: &str = "attacker";
/// What an attacker prints when it is ready.
const READY: &str = "ready";
/// How long an attacker may take to end when it is told to.
const STOP: Duration = Duration::from_secs(30);

/// An attacker, seen from outside.
pub(crate) struct Attacker {
    child: Child,
    /// Its end tells the attacker to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Attacker {
    pub(crate) fn start(attack: &str, home: &Home, address: SocketAddr) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE, attack, &address.to_string()])
            .env("LOCKSTEP_INTEROP_HOME", home.directory())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| Failed::new("the attacker has no output"))?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    pub(crate) fn wait_until_ready(&mut self) -> Outcome {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.trim_end() == READY {
            return Ok(());
        }
        Err(Failed::new("the attacker ended before it was ready"))
    }

    /// Whether it has ended by itself; an error if that was for a failure.
    pub(crate) fn has_ended(&mut self) -> Outcome<bool> {
        match self.child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(Failed::new(format!("the attacker ended with {status}"))),
        }
    }

    /// Tells it that it is over and waits for its end.
    pub(crate) fn stop(mut self) -> Outcome {
        drop(self.stdin.take());
        wait_until("the end of the attacker", STOP, || self.child.try_wait().ok().flatten()).map(|_| ())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The attacker's own side.
struct Told(AtomicBool);

impl Watcher for Told {
    fn ready(&self) {
        println!("{READY}");
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Attacks until its input ends.
pub(crate) fn run(name: &str, address: &str) -> Outcome {
    rustix::process::nice(NICENESS).map_err(std::io::Error::from)?;
    let attack = ATTACKS.iter().find(|attack| attack.name == name);
    let attack = attack.ok_or_else(|| Failed::new(format!("no attack is named {name}")))?;
    let address = address.parse().map_err(|_| Failed::new(format!("{address} is no address")))?;
    let ground = Ground {
        address,
        home: Home::find()?,
        queue: "attacked".to_owned(),
        message_sessions: "attacked.message_sessions".to_owned(),
    };
    let told = Told(AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Nothing is ever written to it.
            let _ = std::io::stdin().read(&mut [0]);
            told.0.store(true, Ordering::Relaxed);
        });
        let result = (attack.run)(&ground, attack.large, &told);
        if let Err(failed) = &result {
            eprintln!("attacker {name}: {failed}");
            // The thread above waits for an input that may never end.
            std::process::exit(1);
        }
        if !told.is_over() {
            std::process::exit(0);
        }
        result
    })
}
