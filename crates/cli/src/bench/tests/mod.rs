//! The generator against a small broker in memory that can be told to lose, double or reorder.

mod echo_broker;

use clap::Parser as _;

use self::echo_broker::{EchoBroker, Fault};
use super::{
    args::{BenchArgs, Scenario},
    check::Verdict,
    endpoint::Endpoint,
    message_sessions::{self, MessageSessionPlan},
    pipe::{self, PipePlan},
};

#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    bench: BenchArgs,
}

fn scenario(line: &str) -> Scenario {
    let words = ["bench"].into_iter().chain(line.split_whitespace());
    CommandLine::try_parse_from(words).unwrap().bench.scenario
}

async fn pipe(line: &str, fault: Option<Fault>) -> anyhow::Result<pipe::PipeOutcome> {
    let broker = EchoBroker::new(fault);
    match scenario(line) {
        Scenario::Pipe(args) => {
            let endpoint = Endpoint::from_args(&args.target)?;
            pipe::run(&broker, &endpoint, &PipePlan::of_pipe(&args)?, None).await
        }
        Scenario::Latency(args) => {
            let endpoint = Endpoint::from_args(&args.target)?;
            pipe::run(&broker, &endpoint, &PipePlan::of_latency(&args)?, None).await
        }
        _ => unreachable!("not a pipe"),
    }
}

async fn sessions(
    line: &str,
    fault: Option<Fault>,
) -> anyhow::Result<message_sessions::MessageSessionOutcome> {
    let Scenario::MessageSessions(args) = scenario(line) else { unreachable!("not message sessions") };
    let endpoint = Endpoint::from_args(&args.target)?;
    message_sessions::run(&EchoBroker::new(fault), &endpoint, &MessageSessionPlan::of(&args)?, None).await
}

fn text(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

const PIPE: &str = "pipe --key right --connections 1 --count 500 --in-flight 20 --duration 60";
const SESSIONS: &str = "sessions --key right --sessions 40 --messages 5 --rounds 3 --interleave 8 --concurrent 4 \
                        --in-flight 20 --backlog 50 --size 100";

#[tokio::test]
async fn a_pipe_run_counts_and_times_every_message() {
    let outcome = pipe(PIPE, None).await.unwrap();
    assert_eq!((outcome.messages, outcome.verdict), (500, Verdict::default()));
    assert_eq!((outcome.accepted.len(), outcome.delivered.len()), (500, 500));
    assert!(outcome.seconds > 0.0);
}

#[tokio::test]
async fn completing_without_confirmation_and_tokens_work_too() {
    let line =
        "pipe --key right --connections 3 --count 301 --in-flight 7 --duration 60 --settle first --auth cbs";
    let outcome = pipe(line, None).await.unwrap();
    assert_eq!((outcome.messages, outcome.verdict), (301, Verdict::default()));
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_shows() {
    let outcome = pipe(PIPE, Some(Fault::Lose)).await.unwrap();
    assert_eq!(outcome.verdict, Verdict { lost: 1, ..Verdict::default() });
}

#[tokio::test]
async fn a_doubled_message_shows() {
    let outcome = pipe(PIPE, Some(Fault::Duplicate)).await.unwrap();
    assert_eq!((outcome.verdict.lost, outcome.verdict.duplicates), (0, 1));
}

#[tokio::test]
async fn a_message_that_overtook_shows() {
    let outcome = pipe(PIPE, Some(Fault::Overtake)).await.unwrap();
    assert!(outcome.verdict.out_of_order > 0 && outcome.verdict.lost == 0);
}

#[tokio::test]
async fn a_rejection_ends_the_run_with_its_reason() {
    let error = pipe(PIPE, Some(Fault::Reject)).await.unwrap_err();
    assert!(text(&error).contains("amqp:resource-limit-exceeded: the queue is full"), "{}", text(&error));
}

#[tokio::test]
async fn a_wrong_key_is_said_to_be_one() {
    let error = pipe("pipe --key wrong", None).await.unwrap_err();
    let text = text(&error);
    assert!(text.contains("RootManageSharedAccessKey") && text.contains("credentials"), "{text}");
}

#[tokio::test]
async fn a_missing_queue_is_named() {
    let error = pipe("pipe --key right --queue missing", None).await.unwrap_err();
    assert!(text(&error).contains("amqp:not-found: there is no queue 'missing'"), "{}", text(&error));
}

#[tokio::test]
async fn more_queues_than_connections_are_refused() {
    let error = pipe("pipe --key right --queues 3", None).await.unwrap_err();
    assert!(text(&error).contains("--connections"));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_latency_scenario_keeps_its_rate() {
    let outcome = pipe("latency --key right --rate 500 --duration 1", None).await.unwrap();
    assert!((490..=500).contains(&outcome.messages), "{}", outcome.messages);
    assert_eq!((outcome.accepted.len(), outcome.verdict), (outcome.messages, Verdict::default()));
}

#[tokio::test]
async fn all_message_sessions_are_drained_in_order_and_closed() {
    for line in [SESSIONS.to_owned(), format!("{SESSIONS} --prefill --settle first")] {
        let Scenario::MessageSessions(args) = scenario(&line) else { unreachable!() };
        let outcome = sessions(&line, None).await.unwrap();
        let report = message_sessions::report(&MessageSessionPlan::of(&args).unwrap(), &outcome).render(true);
        let json: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!((json["messages"].as_u64(), json["rounds"].as_u64()), (Some(600), Some(3)));
        assert!(json["sessions_closed_per_s"].as_f64().unwrap() > 0.0);
        assert_eq!(json["fill_seconds"].is_number(), args.prefill);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_within_a_message_session_ends_the_run() {
    for fault in [Fault::Lose, Fault::Duplicate] {
        let error = sessions(&format!("{SESSIONS} --prefill"), Some(fault)).await.unwrap_err();
        assert!(
            text(&error).contains("was next") || text(&error).contains("came to a stop"),
            "{}",
            text(&error)
        );
    }
}
