//! What is told of a finished run.

use super::{Measured, Pace, PipeOutcome, PipePlan};
use crate::bench::{observer::Observer, report::Report};

/// The rows of a finished run.
pub(in crate::bench) fn report(
    scenario: &'static str,
    plan: &PipePlan,
    outcome: &PipeOutcome,
    observer: &Observer,
) -> Report {
    let mut report = Report::new(scenario);
    report.put("queues", plan.queues.len(), "");
    report.put("senders", plan.senders, "connections");
    report.put("receivers", plan.receivers, "connections");
    report.put("body_bytes", plan.body_bytes, "bytes");
    report.put("durable", plan.durable, "");
    report.put("settle", plan.settle.name(), "");
    match plan.pace {
        Pace::Window { in_flight, .. } => report.put("in_flight_per_sender", in_flight, "messages"),
        Pace::Rate(rate) => report.put("rate", rate, "1/s"),
    }
    report.put("credit_per_receiver", plan.credit, "messages");
    report.put("warm_up_s", plan.warm_up.as_secs(), "s");
    report.put("messages", outcome.messages, "");
    report.measure("seconds", outcome.seconds, "s");
    let rate = outcome.messages as f64 / outcome.seconds.max(f64::MIN_POSITIVE);
    report.measure("messages_per_s", rate, "1/s");
    match (plan.pace, plan.measured) {
        (Pace::Rate(_), _) => {
            report.fine_times("accepted", &outcome.accepted);
            report.fine_times("delivered", &outcome.delivered);
            report.times("sent_late", &outcome.late);
        }
        (Pace::Window { .. }, Measured::Together) => {
            report.times("accepted", &outcome.accepted);
            report.times("delivered", &outcome.delivered);
        }
        (Pace::Window { .. }, Measured::Sending) => report.times("accepted", &outcome.accepted),
        // How long messages lay there says nothing about the broker.
        (Pace::Window { .. }, Measured::Receiving) => {}
    }
    report.usage("", &outcome.used, outcome.messages);
    report.memory(observer);
    report.verdict(&outcome.verdict);
    report
}
