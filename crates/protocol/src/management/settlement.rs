//! Settlement by lock token (wire.md 7.10).

use lockstep_amqp::types::Value;
use lockstep_model::{PropertyOverlay, Refusal, Settlement};

use super::{
    ManagementOperation,
    body::{Body, InvalidBody, Result, wrong_type},
};
use crate::{
    names::{management as names, property},
    settlement::{abandon, overlay},
};

pub(super) fn update_disposition(body: Body<'_>) -> Result<ManagementOperation> {
    let settlement = match body.text(names::DISPOSITION_STATUS)? {
        names::DISPOSITION_COMPLETED => Settlement::Complete,
        names::DISPOSITION_ABANDONED => abandon(entries(body, &[])?.into_iter()).map_err(not_properties)?,
        names::DISPOSITION_SUSPENDED => Settlement::DeadLetter(properties(body, &dead_letter_texts(body)?)?),
        names::DISPOSITION_DEFERED | names::DISPOSITION_DEFERRED => Settlement::Defer(properties(body, &[])?),
        other => {
            return Err(InvalidBody::argument(format!(
                "'{}' has to be completed, abandoned, suspended or defered, not '{other}'.",
                names::DISPOSITION_STATUS
            )));
        }
    };
    Ok(ManagementOperation::Settle {
        tokens: body.lock_tokens()?,
        settlement,
        session: body.optional_message_session()?,
    })
}

/// Reason and description, under the names they have in a message.
fn dead_letter_texts(body: Body<'_>) -> Result<Vec<(&'static str, Value)>> {
    let mut texts = Vec::new();
    for (key, name) in [
        (names::DEADLETTER_REASON, property::DEAD_LETTER_REASON),
        (names::DEADLETTER_DESCRIPTION, property::DEAD_LETTER_ERROR_DESCRIPTION),
    ] {
        if let Some(text) = body.optional_text(key)? {
            texts.push((name, Value::string(text)));
        }
    }
    Ok(texts)
}

/// `properties-to-modify`, with `more` over them.
fn properties(body: Body<'_>, more: &[(&'static str, Value)]) -> Result<PropertyOverlay> {
    overlay(entries(body, more)?.into_iter()).map_err(not_properties)
}

fn entries<'a>(body: Body<'a>, more: &'a [(&'static str, Value)]) -> Result<Vec<(&'a str, &'a Value)>> {
    let key = names::PROPERTIES_TO_MODIFY;
    let given = match body.get(key) {
        None => &[][..],
        Some(Value::Map(map)) => &map[..],
        Some(_) => return Err(wrong_type(key, "a map")),
    };
    let mut entries = Vec::with_capacity(given.len() + more.len());
    for (name, value) in given {
        entries.push((name.as_text().ok_or_else(|| wrong_type(key, "a map with string keys"))?, value));
    }
    entries.extend(more.iter().map(|(name, value)| (*name, value)));
    Ok(entries)
}

fn not_properties(refusal: Refusal) -> InvalidBody {
    let key = names::PROPERTIES_TO_MODIFY;
    let text = match &refusal {
        Refusal::InvalidArgument(why) => format!("'{key}': {why}."),
        _ => format!("'{key}' cannot be laid over a message."),
    };
    InvalidBody { refusal, text }
}
