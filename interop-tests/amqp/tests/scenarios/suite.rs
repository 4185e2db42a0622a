//! Runs scenarios and writes their verdicts.

use std::{
    cell::RefCell,
    fs::OpenOptions,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Arc, Mutex, Once, PoisonError},
};

use libtest_mimic::{Arguments, Trial};
use lockstep_interop_amqp::{Broker, Client, Failed, Home, Outcome};

/// Whose column in docs/compatibility.md the verdicts are: frames of the .NET SDK have their own.
fn client() -> &'static str {
    match env!("CARGO_CRATE_NAME") {
        "dotnet" => "dotnet",
        _ => "amqp",
    }
}

/// A scenario's program.
pub(crate) type Body = fn(&Scenario) -> Outcome;

/// Scenarios by name.
pub(crate) type Scenarios = &'static [(&'static str, Body)];

/// Makes the list of a module's scenarios; a scenario is a function of its name.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: $crate::suite::Scenarios = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use scenarios;

/// What a scenario works with.
pub(crate) struct Scenario {
    name: &'static str,
    broker: Arc<Broker>,
    home: Arc<Home>,
}

impl Scenario {
    /// The queue of the scenario's own name.
    pub(crate) fn queue(&self) -> &'static str {
        self.name
    }

    /// The broker that all scenarios share.
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A connection that may do everything.
    pub(crate) fn connect(&self) -> Outcome<Client> {
        self.broker.connect()
    }

    /// A broker of the scenario's own.
    pub(crate) fn own_broker(&self) -> Outcome<Broker> {
        Broker::start(&self.home)
    }
}

/// The shared broker, from the first scenario on.
#[derive(Default)]
struct Suite(Mutex<Option<Result<Shared, Failed>>>);

#[derive(Clone)]
struct Shared {
    home: Arc<Home>,
    broker: Arc<Broker>,
}

impl Shared {
    fn start() -> Outcome<Self> {
        let home = Arc::new(Home::find()?);
        let broker = Arc::new(Broker::start(&home)?);
        Ok(Self { home, broker })
    }
}

thread_local! {
    /// Text and place of this thread's last panic.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            PANIC.with(|slot| *slot.borrow_mut() = Some(panic.to_string()));
        }));
    });
}

impl Suite {
    fn shared(&self) -> Outcome<Shared> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(Shared::start).clone()
    }

    fn run(&self, name: &'static str, body: Body) -> Outcome {
        keep_panics_quiet();
        let Shared { home, broker } = self.shared()?;
        let scenario = Scenario { name, broker, home };
        let result = catch_unwind(AssertUnwindSafe(|| body(&scenario))).unwrap_or_else(|_| {
            let text = PANIC.with(|slot| slot.borrow_mut().take());
            Err(Failed::new(text.unwrap_or_else(|| "panicked".to_owned())))
        });
        let result = result.and_then(|()| match scenario.broker.exit_status() {
            None => Ok(()),
            Some(status) => Err(Failed::new(format!("the broker ended with {status}"))),
        });
        write_verdict(name, result.is_ok())?;
        result.map_err(|failed| {
            Failed::new(format!("{failed}\n--- broker ---\n{}", scenario.broker.log_tail()))
        })
    }

    /// Ends the shared broker, which has to go in order.
    fn finish(&self) -> Outcome {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Ok(Shared { broker, .. })) = shared else { return Ok(()) };
        let status = broker.stop()?;
        if status.success() {
            return Ok(());
        }
        Err(Failed::new(format!("the broker ended with {status} after SIGTERM\n{}", broker.log_tail())))
    }
}

/// The whole of a test program: runs these scenarios, `threads` at a time unless the command line
/// says otherwise, or none without a broker.
pub(crate) fn run_all(scenarios: impl IntoIterator<Item = Scenarios>, threads: Option<usize>) -> ExitCode {
    if std::env::var_os("LOCKSTEP_BIN").is_none() {
        println!("No broker in LOCKSTEP_BIN: no scenario runs. Use interop-tests/run.sh amqp.");
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(threads);
    let suite = Arc::new(Suite::default());
    let trials = scenarios.into_iter().flatten().map(|&(name, body)| {
        let suite = suite.clone();
        Trial::test(name, move || suite.run(name, body).map_err(Into::into))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let ended = suite.finish();
    if let Err(failed) = &ended {
        eprintln!("{failed}");
    }
    if ended.is_err() || conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn write_verdict(scenario: &str, passed: bool) -> Outcome {
    let Some(directory) = std::env::var_os("LOCKSTEP_INTEROP_RESULTS") else { return Ok(()) };
    let client = client();
    let path = std::path::Path::new(&directory).join(format!("{client}.jsonl"));
    let verdict = if passed { "pass" } else { "fail" };
    let line =
        format!("{{\"client\": \"{client}\", \"scenario\": \"{scenario}\", \"verdict\": \"{verdict}\"}}\n");
    // One write of a short line: scenarios append at the same time.
    Ok(OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())?)
}
