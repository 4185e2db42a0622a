//! The generator against a small broker in memory that can be told to lose, double or reorder.

mod echo_broker;
mod network;

use clap::Parser as _;

use self::echo_broker::{EchoBroker, Fault};
use super::{
    args::{BenchArgs, Scenario},
    check::Verdict,
    connections::{self, ConnectionsPlan},
    endpoint::Endpoint,
    message_sessions::{self, MessageSessionPlan},
    observer::Observer,
    pipe::{self, Measured, PipePlan},
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

/// The broker and the plan of a line; the first one of several.
fn planned(line: &str) -> anyhow::Result<(Endpoint, PipePlan)> {
    let (args, measured) = match scenario(line) {
        Scenario::Pipe(args) => (args, Measured::Together),
        Scenario::Send(args) => (args, Measured::Sending),
        Scenario::Drain(args) => (args, Measured::Receiving),
        Scenario::Latency(args) => {
            let endpoint = Endpoint::from_args(&args.target)?;
            let plan = PipePlan::of_latency(&args, &endpoint)?.remove(0);
            return Ok((endpoint, plan));
        }
        _ => unreachable!("not a pipe"),
    };
    let endpoint = Endpoint::from_args(&args.target)?;
    let plan = PipePlan::of_pipe(&args, &endpoint, measured)?;
    Ok((endpoint, plan))
}

async fn pipe_on(broker: &EchoBroker, line: &str) -> anyhow::Result<pipe::PipeOutcome> {
    let (endpoint, plan) = planned(line)?;
    pipe::run(broker, &endpoint, &plan, &Observer::default()).await
}

async fn pipe(line: &str, fault: Option<Fault>) -> anyhow::Result<pipe::PipeOutcome> {
    pipe_on(&EchoBroker::new(fault), line).await
}

async fn sessions(
    line: &str,
    fault: Option<Fault>,
) -> anyhow::Result<message_sessions::MessageSessionOutcome> {
    let Scenario::MessageSessions(args) = scenario(line) else { unreachable!("not message sessions") };
    let endpoint = Endpoint::from_args(&args.target)?;
    let plan = MessageSessionPlan::of(&args, &endpoint)?;
    message_sessions::run(&EchoBroker::new(fault), &endpoint, &plan, &Observer::default()).await
}

/// The report of idle connections, as JSON.
async fn idle(line: &str, fault: Option<Fault>) -> anyhow::Result<serde_json::Value> {
    let Scenario::Connections(args) = scenario(line) else { unreachable!("not connections") };
    let endpoint = Endpoint::from_args(&args.target)?;
    let plan = ConnectionsPlan::of(&args, &endpoint);
    let outcome =
        connections::run(&EchoBroker::new(fault), &endpoint, &plan, &Observer::of(&args.target)).await?;
    Ok(serde_json::from_str(&connections::report(&plan, &outcome).render(true))?)
}

fn text(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

const PIPE: &str = "pipe --key right --connections 1 --count 500 --in-flight 20 --duration 60";
const SESSIONS: &str = "sessions --key right --warm-up-rounds 1 --sessions 40 --messages 5 --rounds 3 --interleave 8 --concurrent 4 \
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
        "pipe --key right --connections 3 --count 301 --in-flight 7 --duration 60 --settle first --cbs on";
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
        let plan = MessageSessionPlan::of(&args, &Endpoint::from_args(&args.target).unwrap()).unwrap();
        let report = message_sessions::report(&plan, &outcome, &Observer::default()).render(true);
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

#[tokio::test]
async fn sending_and_draining_alone_count_and_check_every_message_too() {
    for (line, fault) in [("send", None), ("drain", None), ("drain", Some(Fault::Duplicate))] {
        let line = format!("{line} --key right --connections 2 --count 400 --in-flight 20 --duration 60");
        let outcome = pipe(&line, fault).await.unwrap();
        let doubled = u64::from(fault.is_some());
        assert_eq!((outcome.messages, outcome.delivered.len()), (400, 400 + doubled), "{line}");
        assert_eq!(outcome.verdict.duplicates, doubled, "{line}");
        assert!(outcome.seconds > 0.0, "{line}");
    }
}

#[tokio::test]
async fn a_clean_verdict_is_no_error_and_another_says_what_is_wrong() {
    Verdict::default().ensure_clean().unwrap();
    let error = Verdict { lost: 3, out_of_order: 1, ..Verdict::default() }.ensure_clean().unwrap_err();
    assert_eq!(text(&error), "the broker lost 3 messages, delivered 0 twice and 1 out of order");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_gets_an_outcome_ends_the_run() {
    for line in [PIPE, "send --key right --connections 1 --count 500 --in-flight 20 --duration 60"] {
        let error = pipe(line, Some(Fault::Silence)).await.unwrap_err();
        assert!(text(&error).contains("stopped giving outcomes"), "{}", text(&error));
    }
}

#[tokio::test]
async fn a_warm_up_runs_before_and_is_not_counted() {
    let broker = EchoBroker::new(None);
    let outcome = pipe_on(&broker, &format!("{PIPE} --warm-up 1")).await.unwrap();
    assert_eq!((outcome.messages, outcome.verdict), (500, Verdict::default()));
    assert!(broker.arrivals() > 500, "{}", broker.arrivals());
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_warm_up_ends_the_run() {
    let error = pipe(&format!("{PIPE} --warm-up 1"), Some(Fault::Reject)).await.unwrap_err();
    assert!(text(&error).starts_with("warm-up"), "{}", text(&error));
}

#[tokio::test]
async fn the_durable_flag_goes_into_each_header() {
    for (option, expected) in [("", true), (" --durable true", true), (" --durable false", false)] {
        let broker = EchoBroker::new(None);
        pipe_on(&broker, &format!("{PIPE}{option}")).await.unwrap();
        assert_eq!(broker.durability_seen(), [expected], "{option}");
    }
}

#[tokio::test]
async fn every_sasl_layer_that_needs_no_certificate_works() {
    for (sasl, needs_sasl) in [("anonymous", true), ("mssbcbs", true), ("plain", true), ("none", false)] {
        let mut broker = EchoBroker::new(None);
        broker.needs_sasl = needs_sasl;
        let line = format!("{PIPE} --sasl {sasl}");
        let outcome = pipe_on(&broker, &line).await.unwrap();
        assert_eq!((outcome.messages, outcome.verdict), (500, Verdict::default()), "{sasl}");
    }
    let error = pipe(&format!("{PIPE} --sasl none"), None).await.unwrap_err();
    assert!(text(&error).contains("no SASL layer"), "{}", text(&error));
}

#[tokio::test]
async fn a_way_to_authenticate_that_lacks_something_is_refused_at_once() {
    for (line, missing) in [
        ("pipe --sasl plain", "--key"),
        ("pipe --cbs on", "--key"),
        ("pipe --sasl external --address amqps://localhost", "--tls-cert"),
    ] {
        assert!(text(&planned(line).unwrap_err()).contains(missing), "{line}");
    }
}

#[test]
fn the_queue_may_stand_in_the_address() {
    let queues = |line: &str| planned(line).unwrap().1.queues;
    assert_eq!(queues("pipe --address amqp://u:p@h/orders"), ["orders"]);
    assert_eq!(queues("pipe --address amqp://u:p@h/orders --queue other"), ["other"]);
    assert_eq!(queues("pipe --address h --queues 2 --queue-prefix q"), ["q-0", "q-1"]);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn latency_counts_from_when_a_message_was_due() {
    // A broker that takes 10 messages and then none for a while delays all that are due meanwhile.
    let mut broker = EchoBroker::new(None);
    broker.stalls_after = Some(10);
    let stalled = broker.clone();
    let resume = tokio::spawn(async move { stalled.resume_after_arrivals(10).await });
    let outcome = pipe_on(&broker, "latency --key right --rate 500 --duration 1").await.unwrap();
    resume.await.unwrap();
    assert!((490..=500).contains(&outcome.messages), "{}", outcome.messages);
    assert_eq!((outcome.late.len(), outcome.verdict), (outcome.messages, Verdict::default()));
    // Those of the first half of the stall waited at least the other half.
    let half = echo_broker::STALL.as_nanos() as u64 / 2;
    assert!(outcome.accepted.value_at_quantile(0.9) >= half && outcome.late.value_at_quantile(0.9) >= half);
}

#[tokio::test]
async fn idle_connections_and_links_are_opened_held_and_closed() {
    for role in ["receiver", "sender"] {
        let line = format!(
            "connections --key right --count 30 --links 70 --parallel 7 --hold 0 --quiet --role {role}"
        );
        let json = idle(&line, None).await.unwrap();
        assert_eq!((json["connections"].as_u64(), json["links"].as_u64()), (Some(30), Some(2_100)));
        assert!(json["attach_all_of_one_p50_us"].as_f64().unwrap() > 0.0);
        assert!(json.get("broker_bytes_per_link").is_none());
    }
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn memory_of_idle_connections_is_told_where_the_process_is_known() {
    let line =
        format!("connections --key right --count 5 --links 2 --hold 0 --quiet --pid {}", std::process::id());
    let json = idle(&line, None).await.unwrap();
    assert!(json["broker_rss_before_mb"].as_f64().unwrap() > 0.0);
    assert!(json["broker_bytes_per_connection"].is_number() && json["broker_bytes_per_link"].is_number());
}

#[tokio::test]
async fn a_connection_that_the_broker_ends_ends_the_run() {
    let line = "connections --key right --count 10 --links 1 --hold 0 --quiet";
    let error = idle(line, Some(Fault::HangUp)).await.unwrap_err();
    assert!(text(&error).contains("without close"), "{}", text(&error));
}
