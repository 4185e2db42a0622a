//! Settlement by lock token (wire.md 7.10).

use lockstep_amqp::types::{Map, Value};
use lockstep_model::Settlement;

use super::{
    ManagementOperation,
    body::{Body, InvalidBody, Result, wrong_type},
};
use crate::{
    names::{management as names, property},
    settlement::overlay,
};

pub(super) fn update_disposition(body: Body<'_>) -> Result<ManagementOperation> {
    let settlement = match body.text(names::DISPOSITION_STATUS)? {
        names::DISPOSITION_COMPLETED => Settlement::Complete,
        names::DISPOSITION_ABANDONED => Settlement::Abandon(properties(body, &[])?),
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
fn properties(body: Body<'_>, more: &[(&'static str, Value)]) -> Result<lockstep_model::PropertyOverlay> {
    let key = names::PROPERTIES_TO_MODIFY;
    let none = Map::new();
    let given = match body.get(key) {
        None => &none,
        Some(Value::Map(map)) => map,
        Some(_) => return Err(wrong_type(key, "a map")),
    };
    let mut entries = Vec::with_capacity(given.len() + more.len());
    for (name, value) in given {
        entries.push((name.as_text().ok_or_else(|| wrong_type(key, "a map with string keys"))?, value));
    }
    entries.extend(more.iter().map(|(name, value)| (*name, value)));
    overlay(entries.into_iter()).map_err(|refusal| InvalidBody {
        refusal,
        text: format!("'{key}' has to hold values of simple types, at most 65536 bytes in all."),
    })
}
