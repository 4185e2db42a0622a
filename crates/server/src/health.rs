//! Whether the broker does its work: a real durable write, made for the question.

use std::{sync::Arc, time::Duration};

use lockstep_broker::runtime::Broker;
use lockstep_model::{Clock, MonoTime};
use tokio::sync::Mutex;

use crate::http::Health;

/// How long an answer stands, so that health checks cost one write a second at the most.
const ANSWER_STANDS: Duration = Duration::from_secs(1);
/// How long the write may take.
const WRITE_WAIT: Duration = Duration::from_secs(5);

/// Answers health checks.
pub(crate) struct HealthCheck {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<(MonoTime, Health)>>,
}

impl HealthCheck {
    pub(crate) fn new(broker: Arc<Broker>, clock: Arc<dyn Clock>) -> Self {
        Self { broker, clock, last: Mutex::new(None) }
    }

    pub(crate) async fn check(&self) -> Health {
        // Whoever asks while a write is under way waits for its answer.
        let mut last = self.last.lock().await;
        if let Some((at, health)) = *last
            && self.clock.now().mono < at.plus(ANSWER_STANDS)
        {
            return health;
        }
        if self.broker.failure().borrow().is_some() {
            return Health::Unhealthy;
        }
        let health = match tokio::time::timeout(WRITE_WAIT, self.broker.probe()).await {
            Ok(Ok(())) => Health::Healthy,
            _ => Health::Unhealthy,
        };
        *last = Some((self.clock.now().mono, health));
        health
    }
}
