//! What can be refused, and in which words (admin.md 1.11). Clients pick their exceptions by the
//! status and by the beginnings of these texts.

use lockstep_model::Timestamp;

use crate::{
    Reply,
    atom::{date, write},
};

/// What an operation does to an entity, in the words of the texts about missing rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read or list.
    Read,
    /// Create or update.
    Write,
    /// Delete.
    Delete,
}

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AdminError {
    /// The request or a value in it is wrong; the client must change it.
    #[error("SubCode=40000. Bad Request. {0}")]
    Invalid(String),
    /// No entity can have this name.
    #[error(
        "SubCode=40000. '{0}' contains character(s) that is not allowed by Service Bus. Entity segments can \
         contain only letters, numbers, periods, hyphens, underscores."
    )]
    InvalidName(String),
    /// There is no token, or it is not good. Answered without a body; the text is for the log.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token is good and does not give `Manage`.
    #[error("{}", unauthorized(*.0))]
    Unauthorized(Action),
    /// There is nothing of that name.
    #[error("SubCode=40400. Not Found. The messaging entity '{0}' could not be found.")]
    NotFound(String),
    /// There is no such subscription, or none of its rules; topics come later.
    #[error("Entity '{0}' was not found.")]
    SubscriptionNotFound(String),
    /// The method means nothing here.
    #[error("SubCode=40500. Method Not Allowed. The administration API takes GET, PUT and DELETE.")]
    MethodNotAllowed,
    /// The body is larger than [`REQUEST_BODY_BYTES_MAX`](crate::REQUEST_BODY_BYTES_MAX).
    #[error("SubCode=41300. The body of the request is larger than {} bytes.", crate::REQUEST_BODY_BYTES_MAX)]
    TooLarge,
    /// The body did not come in time.
    #[error("SubCode=40800. The body of the request did not come in time.")]
    TooSlow,
    /// An entity of that name is there.
    #[error(
        "SubCode=40900. Conflict. You're requesting an operation that isn't allowed in the resource's current \
         state. The messaging entity '{0}' already exists."
    )]
    AlreadyExists(String),
    /// The namespace has as many entities as it may have.
    #[error("SubCode=40300. Forbidden. The namespace has as many entities as it may have.")]
    QuotaExceeded,
    /// A later version brings it.
    #[error("SubCode=50100. Not Implemented. This version of Lockstep does not support {0}.")]
    NotSupported(&'static str),
    /// The broker is short of memory or is stopping; the client may try again.
    #[error(
        "SubCode=50004. The request was terminated because the broker is too busy. Please try again later."
    )]
    Busy,
}

fn unauthorized(action: Action) -> &'static str {
    match action {
        Action::Read => "Manage,EntityRead claims required for this operation.",
        Action::Write => {
            "SubCode=40100. Unauthorized. Authorization failed for specified action: Manage,EntityWrite."
        }
        Action::Delete => {
            "SubCode=40100. Unauthorized. Authorization failed for specified action: Manage,EntityDelete."
        }
    }
}

/// What stands behind the text of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// Recognises the refusal in the log.
    pub tracking_id: &'a str,
    /// The host as the client spelled it.
    pub host: &'a str,
    /// The path as the client spelled it.
    pub path: &'a str,
    /// Now.
    pub now: Timestamp,
}

impl AdminError {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) | Self::InvalidName(_) => 400,
            Self::Unauthenticated(_) | Self::Unauthorized(_) => 401,
            Self::QuotaExceeded => 403,
            Self::NotFound(_) | Self::SubscriptionNotFound(_) => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow => 408,
            Self::AlreadyExists(_) => 409,
            Self::TooLarge => 413,
            Self::NotSupported(_) => 501,
            Self::Busy => 503,
        }
    }

    /// The answer.
    #[must_use]
    pub fn reply(&self, context: &ErrorContext<'_>) -> Reply {
        let status = self.status();
        if matches!(self, Self::Unauthenticated(_)) {
            return Reply { status, content_type: None, body: String::new() };
        }
        let detail = format!(
            "{self} TrackingId:{}_G0, SystemTracker:{}:{}, Timestamp:{}",
            context.tracking_id,
            context.host,
            context.path.trim_matches('/'),
            date::to_seconds(context.now).trim_end_matches('Z')
        );
        let mut body = format!("<Error><Code>{status}</Code><Detail>");
        write::escape(&mut body, &detail);
        body.push_str("</Detail></Error>");
        Reply { status, content_type: Some("application/xml; charset=utf-8"), body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(error: &AdminError) -> Reply {
        let now = Timestamp::from_unix_millis(1_893_456_000_000);
        error.reply(&ErrorContext { tracking_id: "id", host: "ns.example", path: "/q&1", now })
    }

    #[test]
    fn a_refusal_has_the_form_that_clients_parse() {
        let reply = reply(&AdminError::AlreadyExists("sb://ns.example/q".into()));
        assert_eq!(reply.status, 409);
        assert!(
            reply.body.starts_with("<Error><Code>409</Code><Detail>SubCode=40900. Conflict. "),
            "{reply:?}"
        );
        let end = "TrackingId:id_G0, SystemTracker:ns.example:q&amp;1, Timestamp:2030-01-01T00:00:00</Detail></Error>";
        assert!(reply.body.ends_with(end), "{reply:?}");
        assert!(reply.content_type.is_some_and(|kind| kind.contains("xml")));
    }

    #[test]
    fn whoever_shows_no_good_token_is_told_nothing() {
        let reply = reply(&AdminError::Unauthenticated("MissingToken".into()));
        assert_eq!(reply, Reply { status: 401, content_type: None, body: String::new() });
    }

    #[test]
    fn a_missing_right_is_told_in_the_words_that_clients_match() {
        let text = |action| AdminError::Unauthorized(action).to_string();
        assert!(text(Action::Read).starts_with("Manage,EntityRead claims required for this operation"));
        assert!(
            text(Action::Write).contains("Authorization failed for specified action: Manage,EntityWrite")
        );
        assert!(
            text(Action::Delete).contains("Authorization failed for specified action: Manage,EntityDelete.")
        );
    }

    #[test]
    fn what_is_not_found_begins_as_javascript_looks_for_it() {
        assert!(AdminError::NotFound("q".into()).to_string().starts_with("SubCode"));
        assert!(AdminError::SubscriptionNotFound("ns:Topic:t|s".into()).to_string().starts_with("Entity"));
    }
}
