//! Requests to the `$cbs` node: put-token and its response (wire.md 2.2, 2.3).

use bytes::Bytes;
use lockstep_amqp::{
    message::{
        Properties, decode_body_value, decode_map_section, decode_properties, encode_value_message, scan,
    },
    types::{Map, Value},
};
use lockstep_model::Refusal;

use crate::{
    conditions::{self, RefusalContext},
    names::{cbs as names, condition},
    sas_token::{self, TokenError},
};

const ACCEPTED: i32 = 202;
const BAD_REQUEST: i32 = 400;
const UNAUTHORIZED: i32 = 401;
const NOT_IMPLEMENTED: i32 = 501;

/// A put-token request. Its debug output leaves the token out. An expiration beside the token
/// is ignored, whatever its form: the token's own counts.
#[derive(Clone, PartialEq)]
pub struct PutToken {
    /// The correlation-id of the response, with its type: the request's message-id, or its own
    /// correlation-id if it has none.
    pub message_id: Option<Value>,
    /// The address of the response; Python gives none.
    pub reply_to: Option<Box<str>>,
    /// What the token is for, as the client spelled it.
    pub audience: Box<str>,
    /// The token: a shared access signature.
    pub token: Box<str>,
}

impl std::fmt::Debug for PutToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutToken")
            .field("message_id", &self.message_id)
            .field("reply_to", &self.reply_to)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// A request to `$cbs` that cannot be carried out whatever the token is worth.
#[derive(Clone, PartialEq, Debug)]
pub struct CbsError {
    /// As in [`PutToken`].
    pub message_id: Option<Value>,
    /// As in [`PutToken`].
    pub reply_to: Option<Box<str>>,
    /// The answer.
    pub response: CbsResponse,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CbsResponse {
    /// The token is good.
    Accepted,
    /// It is not. Made by the functions of this type.
    Refused {
        /// status-code.
        status: i32,
        /// error-condition.
        condition: &'static str,
        /// status-description.
        description: String,
    },
}

impl CbsResponse {
    /// 401: the token is not good; the text begins with what is wrong.
    #[must_use]
    pub fn bad_token(error: &TokenError, context: &RefusalContext<'_>) -> Self {
        Self::Refused {
            status: UNAUTHORIZED,
            condition: condition::UNAUTHORIZED_ACCESS,
            description: conditions::described(&error.to_string(), context),
        }
    }

    /// The broker refuses for another reason: 404 for an entity that does not exist.
    #[must_use]
    pub fn refused(refusal: &Refusal, context: &RefusalContext<'_>) -> Self {
        let (status, condition) = conditions::management_status(refusal);
        Self::Refused { status, condition, description: conditions::description(refusal, context) }
    }

    fn malformed(text: &str) -> Self {
        Self::Refused {
            status: BAD_REQUEST,
            condition: condition::ARGUMENT_ERROR,
            description: text.to_owned(),
        }
    }
}

/// Understands a request to `$cbs`. The token is not looked into, except that it is no JWT.
///
/// # Errors
/// A response to be sent: 400 with a text that names what is missing or wrong, 401 for a token
/// of a type that is not known here, 501 for another operation than put-token.
pub fn parse(message: &Bytes) -> Result<PutToken, CbsError> {
    let mut request =
        PutToken { message_id: None, reply_to: None, audience: Box::default(), token: Box::default() };
    match fill(&mut request, message) {
        Ok(()) => Ok(request),
        Err(response) => {
            Err(CbsError { message_id: request.message_id, reply_to: request.reply_to, response })
        }
    }
}

fn fill(request: &mut PutToken, message: &Bytes) -> Result<(), CbsResponse> {
    let unreadable = |_| CbsResponse::malformed("The request is no AMQP message that can be read.");
    let sections = scan(message).map_err(unreadable)?;
    if let Some(range) = sections.properties.clone() {
        let properties = decode_properties(&message[range]).map_err(unreadable)?;
        request.message_id = properties.message_id.or(properties.correlation_id);
        request.reply_to = properties.reply_to.and_then(|value| value.as_text().map(Into::into));
    }
    let options = match sections.application_properties.clone() {
        None => Map::new(),
        Some(range) => decode_map_section(&message[range]).map_err(unreadable)?,
    };
    let option = |key: &str| {
        let entry = options.iter().find(|(name, _)| name.as_text() == Some(key));
        entry.and_then(|(_, value)| value.as_text())
    };
    match option(names::OPERATION) {
        Some(names::PUT_TOKEN) => {}
        Some(other) => {
            return Err(CbsResponse::Refused {
                status: NOT_IMPLEMENTED,
                condition: condition::NOT_IMPLEMENTED,
                description: format!("The operation '{other}' is not known: $cbs knows put-token."),
            });
        }
        None => {
            return Err(CbsResponse::malformed(
                "The request has no application property 'operation' with the value put-token.",
            ));
        }
    }
    let Some(audience) = option(names::NAME) else {
        return Err(CbsResponse::malformed(
            "The request has no application property 'name' with the audience of the token.",
        ));
    };
    request.audience = audience.into();
    let body = decode_body_value(message, &sections).map_err(unreadable)?;
    let Some(token) = body.as_ref().and_then(Value::as_text) else {
        return Err(CbsResponse::malformed(
            "The body of the request has to be the token, a string (amqp-value).",
        ));
    };
    // The token shows its own type: Python calls a shared access signature "jwt" with some
    // credentials.
    if !sas_token::has_scheme(token) && option(names::TYPE).is_some_and(|kind| kind != names::TYPE_SAS) {
        return Err(CbsResponse::Refused {
            status: UNAUTHORIZED,
            condition: condition::UNAUTHORIZED_ACCESS,
            description: format!(
                "InvalidToken: The type of the token is not supported: it has to be {}, a shared access signature.",
                names::TYPE_SAS
            ),
        });
    }
    request.token = token.into();
    Ok(())
}

/// A whole response message. `correlation_id` is the request's `message_id`, of the same type.
#[must_use]
pub fn encode_response(correlation_id: Option<&Value>, response: &CbsResponse) -> Bytes {
    let (status, description, condition) = match response {
        CbsResponse::Accepted => (ACCEPTED, "Accepted", None),
        CbsResponse::Refused { status, condition, description } => {
            (*status, description.as_str(), Some(*condition))
        }
    };
    let mut properties = vec![
        (names::STATUS_CODE.into(), Value::Int(status)),
        (names::STATUS_DESCRIPTION.into(), Value::string(description)),
    ];
    if let Some(condition) = condition {
        properties.push((names::ERROR_CONDITION.into(), Value::symbol(condition)));
    }
    let header = Properties { correlation_id: correlation_id.cloned(), ..Properties::default() };
    encode_value_message(Some(&header), &properties, &Value::Null)
}

#[cfg(test)]
mod tests;
