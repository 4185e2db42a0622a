//! Outcomes as settlements and back (wire.md 5.5).

use std::time::Duration;

use bytes::BytesMut;
use lockstep_amqp::{
    codec::encode_value,
    types::{DeliveryState, Error, Fields, Modified, Outcome, TransactionalState, Value},
};
use lockstep_model::{
    Feature, PropertyOverlay, PropertyValue, Refusal, Settlement, limits::REDELIVERY_DELAY_MAX,
};

use crate::{
    conditions::{self, RefusalContext},
    names::{annotation, property},
};

/// Bytes of names and values that one settlement may lay over a message (semantics B-7: all
/// properties of a message together).
pub const SETTLEMENT_PROPERTIES_BYTES_MAX: usize = 64 * 1024;

/// What a delivery state asks for.
///
/// # Errors
/// `NotSupported` for transactions; `InvalidArgument` for a state that is no outcome
/// and for properties that no message can have.
pub fn settlement(state: &DeliveryState) -> Result<Settlement, Refusal> {
    match state {
        DeliveryState::Outcome(outcome) => settlement_of_outcome(outcome),
        DeliveryState::Transactional(_) | DeliveryState::Declared(_) => {
            Err(Refusal::NotSupported(Feature::Transactions))
        }
        DeliveryState::Received { .. } | DeliveryState::Other(_) => {
            Err(Refusal::InvalidArgument("a message is settled by accepted, rejected, released or modified"))
        }
    }
}

/// What a whole disposition asks for: `None` if it asks for nothing yet (it has no outcome and
/// does not settle). A receiver that settles without an outcome means the default outcome of its
/// source, and without one that it has not looked at the message.
///
/// # Errors
/// As [`settlement`].
pub fn settlement_of_disposition(
    state: Option<&DeliveryState>,
    settled: bool,
    default_outcome: Option<&Outcome>,
) -> Result<Option<Settlement>, Refusal> {
    match state {
        None | Some(DeliveryState::Received { .. }) if !settled => Ok(None),
        None | Some(DeliveryState::Received { .. }) => {
            default_outcome.map_or(Ok(Settlement::Release), settlement_of_outcome).map(Some)
        }
        Some(state) => settlement(state).map(Some),
    }
}

fn settlement_of_outcome(outcome: &Outcome) -> Result<Settlement, Refusal> {
    match outcome {
        Outcome::Accepted => Ok(Settlement::Complete),
        Outcome::Released => Ok(Settlement::Release),
        // Neither flag decides between abandon and release: .NET sends none, Python sets
        // delivery-failed (semantics B-18).
        Outcome::Modified(modified) => {
            let fields = modified.message_annotations.as_ref().map_or(&[][..], |fields| &fields.0[..]);
            let entries = fields.iter().map(|(name, value)| (name.as_str(), value));
            match modified.undeliverable_here {
                Some(true) => overlay(entries).map(Settlement::Defer),
                _ => abandon(entries),
            }
        }
        // A condition and description of the client's own are not a reason: clients expect the
        // reason to be absent unless it was given (semantics G-44).
        Outcome::Rejected(error) => {
            let info = error.as_ref().and_then(|error| error.info.as_ref());
            info.map_or(Ok(PropertyOverlay::new()), overlay_of_fields).map(Settlement::DeadLetter)
        }
    }
}

/// An abandon with these properties, one of which may be a delay (semantics F-7).
///
/// # Errors
/// As [`overlay`]; `InvalidArgument` for a delay that is no number of milliseconds up to 24 hours.
pub(crate) fn abandon<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Value)>,
) -> Result<Settlement, Refusal> {
    let mut delay = None;
    let entries = entries.filter(|(name, value)| {
        let is_delay = *name == annotation::REDELIVER_AFTER;
        if is_delay {
            delay = Some(*value);
        }
        !is_delay
    });
    let properties = overlay(entries)?;
    let Some(delay) = delay else { return Ok(Settlement::Abandon(properties)) };
    let delay = delay.as_u64().map(Duration::from_millis).filter(|delay| *delay <= REDELIVERY_DELAY_MAX);
    delay.map(|delay| Settlement::AbandonFor(properties, delay)).ok_or(Refusal::InvalidArgument(
        "x-opt-redeliver-after has to be a number of milliseconds, at most 86400000",
    ))
}

fn overlay_of_fields(fields: &Fields) -> Result<PropertyOverlay, Refusal> {
    overlay(fields.0.iter().map(|(name, value)| (name.as_str(), value)))
}

/// Properties to lay over a message. Null values are kept, except for the reason and description
/// of dead-lettering, which are then not given (Python sends both always).
///
/// # Errors
/// `InvalidArgument` for a value that is not simple, or too many bytes.
pub(crate) fn overlay<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Value)>,
) -> Result<PropertyOverlay, Refusal> {
    let mut overlay = PropertyOverlay::new();
    for (name, value) in entries {
        let is_reason =
            name == property::DEAD_LETTER_REASON || name == property::DEAD_LETTER_ERROR_DESCRIPTION;
        if is_reason && *value == Value::Null {
            continue;
        }
        if !is_simple(value) {
            return Err(Refusal::InvalidArgument("application properties have values of simple types"));
        }
        let mut encoded = BytesMut::new();
        encode_value(&mut encoded, value);
        overlay.set(name, PropertyValue::Encoded(encoded.freeze()));
    }
    if overlay.size_bytes() > SETTLEMENT_PROPERTIES_BYTES_MAX {
        return Err(Refusal::InvalidArgument("the properties of a settlement have at most 65536 bytes"));
    }
    Ok(overlay)
}

/// Whether a value may stand in application-properties: a simple one, or one of .NET's described
/// simple ones (timespan, uri and so on).
fn is_simple(value: &Value) -> bool {
    match value {
        Value::List(_) | Value::Map(_) | Value::Array(_) => false,
        Value::Described(described) => {
            !matches!(described.value, Value::Described(_)) && is_simple(&described.value)
        }
        _ => true,
    }
}

/// The state that confirms a settlement: the same outcome as requested, without what it carried.
/// In particular a `rejected` without error, which clients take for success.
#[must_use]
pub fn confirmation(requested: &DeliveryState) -> DeliveryState {
    match requested {
        DeliveryState::Outcome(outcome) => DeliveryState::Outcome(confirmed_outcome(outcome)),
        DeliveryState::Transactional(state) => DeliveryState::Transactional(TransactionalState {
            txn_id: state.txn_id.clone(),
            outcome: state.outcome.as_ref().map(confirmed_outcome),
        }),
        other => other.clone(),
    }
}

fn confirmed_outcome(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Accepted => Outcome::Accepted,
        Outcome::Released => Outcome::Released,
        Outcome::Rejected(_) => Outcome::Rejected(None),
        Outcome::Modified(modified) => {
            Outcome::Modified(Modified { message_annotations: None, ..modified.clone() })
        }
    }
}

/// The outcome that confirms a settlement made without a state: what the broker did by itself.
#[must_use]
pub fn confirmation_of(settlement: &Settlement) -> DeliveryState {
    DeliveryState::Outcome(match settlement {
        Settlement::Complete => Outcome::Accepted,
        Settlement::Abandon(_) | Settlement::AbandonFor(..) => Outcome::Modified(Modified::default()),
        Settlement::Defer(_) => {
            Outcome::Modified(Modified { undeliverable_here: Some(true), ..Modified::default() })
        }
        Settlement::DeadLetter(_) => Outcome::Rejected(None),
        Settlement::Release => Outcome::Released,
    })
}

/// The state that refuses a settlement or a message sent: `rejected` with the error.
#[must_use]
pub fn failure(refusal: &Refusal, context: &RefusalContext<'_>) -> DeliveryState {
    rejected(conditions::error(refusal, context))
}

/// `rejected` with an error.
#[must_use]
pub const fn rejected(error: Error) -> DeliveryState {
    DeliveryState::Outcome(Outcome::Rejected(Some(error)))
}

/// The state that accepts a message sent: `accepted`.
#[must_use]
pub const fn accepted() -> DeliveryState {
    DeliveryState::Outcome(Outcome::Accepted)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lockstep_model::Timestamp;

    use super::*;

    fn fields(entries: &[(&str, Value)]) -> Fields {
        let mut fields = Fields::default();
        for (key, value) in entries {
            fields.insert(key, value.clone());
        }
        fields
    }

    fn encoded(value: &Value) -> PropertyValue {
        let mut buffer = BytesMut::new();
        encode_value(&mut buffer, value);
        PropertyValue::Encoded(buffer.freeze())
    }

    fn modified(here: Option<bool>, failed: Option<bool>, annotations: Option<Fields>) -> DeliveryState {
        DeliveryState::Outcome(Outcome::Modified(Modified {
            delivery_failed: failed,
            undeliverable_here: here,
            message_annotations: annotations,
        }))
    }

    fn rejected_with(info: Option<Fields>) -> DeliveryState {
        let error = Error { info, ..Error::new("com.microsoft:dead-letter", "text") };
        DeliveryState::Outcome(Outcome::Rejected(Some(error)))
    }

    #[test]
    fn an_abandon_may_name_the_time_of_the_next_delivery() {
        let abandon = |delay: Value| {
            let fields = vec![("x-opt-redeliver-after".into(), delay), ("tried".into(), Value::Int(1))];
            settlement(&modified(None, Some(true), Some(Fields(fields))))
        };
        for delay in [Value::Int(1_500), Value::Long(1_500), Value::Uint(1_500), Value::Ulong(1_500)] {
            let Ok(Settlement::AbandonFor(overlay, delay)) = abandon(delay) else { panic!("no delay") };
            assert_eq!(delay, Duration::from_millis(1_500));
            assert_eq!(overlay.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["tried"]);
        }
        for delay in [Value::Int(-1), Value::Long(86_400_001), Value::string("soon"), Value::Null] {
            assert!(matches!(abandon(delay), Err(Refusal::InvalidArgument(_))));
        }
    }

    #[test]
    fn every_clients_abandon_is_an_abandon() {
        for state in [
            modified(None, None, None),
            modified(None, Some(true), None),
            modified(Some(false), Some(false), Some(Fields::default())),
        ] {
            assert_eq!(settlement(&state), Ok(Settlement::Abandon(PropertyOverlay::new())), "{state:?}");
        }
    }

    #[test]
    fn accepted_completes_and_released_releases() {
        assert_eq!(settlement(&accepted()), Ok(Settlement::Complete));
        assert_eq!(settlement(&DeliveryState::Outcome(Outcome::Released)), Ok(Settlement::Release));
    }

    #[test]
    fn properties_of_an_abandon_keep_their_types_and_nulls() {
        let given = fields(&[("n", Value::Ushort(7)), ("none", Value::Null)]);
        let Ok(Settlement::Abandon(overlay)) = settlement(&modified(None, None, Some(given))) else {
            panic!("an abandon");
        };
        assert_eq!(overlay.get("n"), Some(&encoded(&Value::Ushort(7))));
        assert_eq!(overlay.get("none"), Some(&encoded(&Value::Null)));
    }

    #[test]
    fn dead_letter_reason_description_and_own_properties_become_properties() {
        let info = fields(&[
            ("DeadLetterReason", Value::string("why")),
            ("DeadLetterErrorDescription", Value::string("because")),
            ("mine", Value::Int(-3)),
        ]);
        let Ok(Settlement::DeadLetter(overlay)) = settlement(&rejected_with(Some(info))) else {
            panic!("a dead-letter");
        };
        assert_eq!(overlay.get("DeadLetterReason"), Some(&encoded(&Value::string("why"))));
        assert_eq!(overlay.get("DeadLetterErrorDescription"), Some(&encoded(&Value::string("because"))));
        assert_eq!(overlay.get("mine"), Some(&encoded(&Value::Int(-3))));
    }

    #[test]
    fn a_reason_that_is_not_given_stays_absent() {
        let info = fields(&[("DeadLetterReason", Value::Null), ("DeadLetterErrorDescription", Value::Null)]);
        for state in
            [DeliveryState::Outcome(Outcome::Rejected(None)), rejected_with(None), rejected_with(Some(info))]
        {
            assert_eq!(settlement(&state), Ok(Settlement::DeadLetter(PropertyOverlay::new())), "{state:?}");
        }
    }

    #[test]
    fn modified_and_undeliverable_here_is_deferral() {
        let deferred = settlement(&modified(Some(true), None, None));
        assert_eq!(deferred, Ok(Settlement::Defer(PropertyOverlay::new())));
        let confirmed = confirmation_of(&deferred.expect("good"));
        assert!(matches!(confirmed, DeliveryState::Outcome(Outcome::Modified(_))));
    }

    #[test]
    fn transactions_are_refused_by_name() {
        let state = TransactionalState { txn_id: Bytes::from_static(b"t"), outcome: Some(Outcome::Accepted) };
        assert_eq!(
            settlement(&DeliveryState::Transactional(state)),
            Err(Refusal::NotSupported(Feature::Transactions))
        );
    }

    #[test]
    fn properties_that_no_message_can_have_are_refused() {
        let list = fields(&[("l", Value::List(vec![]))]);
        assert!(matches!(settlement(&rejected_with(Some(list))), Err(Refusal::InvalidArgument(_))));
        let large = fields(&[("b", Value::Binary(vec![0; SETTLEMENT_PROPERTIES_BYTES_MAX].into()))]);
        assert!(matches!(settlement(&rejected_with(Some(large))), Err(Refusal::InvalidArgument(_))));
    }

    #[test]
    fn settling_without_an_outcome_means_the_default_outcome_or_a_release() {
        let received = DeliveryState::Received { section_number: 0, section_offset: 0 };
        for state in [None, Some(&received)] {
            assert_eq!(settlement_of_disposition(state, false, Some(&Outcome::Accepted)), Ok(None));
            assert_eq!(
                settlement_of_disposition(state, true, Some(&Outcome::Accepted)),
                Ok(Some(Settlement::Complete))
            );
            assert_eq!(settlement_of_disposition(state, true, None), Ok(Some(Settlement::Release)));
        }
    }

    #[test]
    fn a_settlement_is_confirmed_by_its_own_outcome_and_a_dead_letter_without_error() {
        let outcome = |outcome| DeliveryState::Outcome(outcome);
        assert_eq!(confirmation(&accepted()), accepted());
        assert_eq!(confirmation(&outcome(Outcome::Released)), outcome(Outcome::Released));
        assert_eq!(confirmation(&rejected_with(Some(Fields::default()))), outcome(Outcome::Rejected(None)));
        assert_eq!(
            confirmation(&modified(None, Some(true), Some(Fields::default()))),
            modified(None, Some(true), None)
        );
    }

    #[test]
    fn a_failed_settlement_is_rejected_with_an_error() {
        let context = RefusalContext::new("h", "q", "id", Timestamp::default());
        let DeliveryState::Outcome(Outcome::Rejected(Some(error))) =
            failure(&Refusal::MessageLockLost, &context)
        else {
            panic!("rejected");
        };
        assert_eq!(error.condition.as_str(), "com.microsoft:message-lock-lost");
    }
}
