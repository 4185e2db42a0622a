//! The envelope of a request: where the response goes, and which operation it is.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::{
    message::{Sections, decode_body_value, decode_map_section, decode_properties, scan},
    types::{Map, Value},
};
use lockstep_model::{Feature, Refusal};

use super::{
    ManagementError, ManagementOperation, ManagementRequest,
    body::{Body, InvalidBody, Result},
    locks, message_sessions, peek, sequence_numbers, settlement,
};
use crate::names::management as names;

/// Understands a request. Whether the client may make it is not looked at.
///
/// # Errors
/// `InvalidArgument` (or `IdTooLong`) with a text that names what is missing or wrong, and
/// whatever of the request is needed to answer it.
pub fn parse(message: &Bytes) -> std::result::Result<ManagementRequest, ManagementError> {
    let mut envelope = ManagementRequest {
        message_id: None,
        reply_to: None,
        associated_link_name: None,
        server_timeout: None,
        operation: ManagementOperation::Unknown(String::new()),
    };
    match fill(&mut envelope, message) {
        Ok(()) => Ok(envelope),
        Err(InvalidBody { refusal, text }) => Err(ManagementError {
            message_id: envelope.message_id,
            reply_to: envelope.reply_to,
            refusal,
            text: text.into(),
        }),
    }
}

/// Fills a request in the order in which its parts are needed for an answer.
fn fill(request: &mut ManagementRequest, message: &Bytes) -> Result<()> {
    let sections = scan(message).map_err(|error| unreadable("request", &error))?;
    if let Some(range) = sections.properties.clone() {
        let properties =
            decode_properties(&message[range]).map_err(|error| unreadable("properties section", &error))?;
        request.message_id = properties.message_id.or(properties.correlation_id);
        request.reply_to = properties.reply_to.and_then(|value| value.as_text().map(Into::into));
    }
    let options = options(message, &sections)?;
    let options = Body(&options);
    let timeout = options.get(names::SERVER_TIMEOUT).or_else(|| options.get(names::SERVER_TIMEOUT_BARE));
    request.server_timeout = timeout.and_then(Value::as_u64).map(Duration::from_millis);
    request.associated_link_name =
        options.get(names::ASSOCIATED_LINK_NAME).and_then(Value::as_text).map(Into::into);
    let operation = options.get(names::OPERATION).and_then(Value::as_text).ok_or_else(|| {
        InvalidBody::argument(format!(
            "The request has no application property '{}' with the name of an operation.",
            names::OPERATION
        ))
    })?;
    let body = match decode_body_value(message, &sections) {
        Ok(Some(Value::Map(map))) => Ok(map),
        Ok(_) => Err(InvalidBody::argument("The body of the request has to be a map (amqp-value).".into())),
        Err(error) => Err(unreadable("body of the request", &error)),
    };
    request.operation = parse_operation(operation, body)?;
    Ok(())
}

fn options(message: &Bytes, sections: &Sections) -> Result<Map> {
    match sections.application_properties.clone() {
        None => Ok(Map::new()),
        Some(range) => decode_map_section(&message[range])
            .map_err(|error| unreadable("application-properties section", &error)),
    }
}

/// An unknown operation is unknown whatever its body is.
fn parse_operation(operation: &str, body: Result<Map>) -> Result<ManagementOperation> {
    let arguments: fn(Body<'_>) -> Result<ManagementOperation> = match operation {
        names::RENEW_LOCK => locks::renew_locks,
        names::RENEW_MESSAGE_SESSION_LOCK => locks::renew_message_session_lock,
        names::GET_MESSAGE_SESSION_STATE => message_sessions::get_state,
        names::SET_MESSAGE_SESSION_STATE => message_sessions::set_state,
        names::GET_MESSAGE_SESSIONS => message_sessions::list,
        names::PEEK_MESSAGE => peek::peek,
        names::UPDATE_DISPOSITION => settlement::update_disposition,
        names::SCHEDULE_MESSAGE => sequence_numbers::schedule,
        names::CANCEL_SCHEDULED_MESSAGE => sequence_numbers::cancel,
        names::RECEIVE_BY_SEQUENCE_NUMBER => sequence_numbers::receive,
        names::BATCH_DELETE_MESSAGES => sequence_numbers::delete,
        names::ADD_RULE | names::REMOVE_RULE | names::ENUMERATE_RULES => {
            return Ok(ManagementOperation::NotYet(Feature::Topics));
        }
        unknown => return Ok(ManagementOperation::Unknown(unknown.to_owned())),
    };
    arguments(Body(&body?))
}

fn unreadable(what: &str, error: &impl std::fmt::Display) -> InvalidBody {
    InvalidBody {
        refusal: Refusal::InvalidArgument("the request cannot be read"),
        text: format!("The {what} cannot be read: {error}."),
    }
}
