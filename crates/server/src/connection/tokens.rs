//! The `$cbs` node: tokens that clients present (wire.md 2.3, semantics G-1 to G-7).

use bytes::Bytes;
use lockstep_model::{EntityAddress, Refusal};
use lockstep_protocol::{
    cbs::{self, CbsResponse, PutToken},
    sas_token::{Audience, SasToken, TokenError},
};

use super::{Connection, authorizer::Grant, request_links::Route};

/// Refused tokens of one connection that are logged; more are only at the level `debug`.
const REFUSALS_LOGGED_MAX: u32 = 16;

/// Why a put-token is not accepted.
enum NotTaken {
    Token(TokenError),
    Refused(Refusal),
}

impl Connection {
    pub(super) fn cbs_request(&mut self, payload: &Bytes, route: &dyn Fn(Option<Box<str>>) -> Route) {
        let (message_id, reply_to, response) = match cbs::parse(payload) {
            Ok(request) => {
                let response = self.put_token(&request);
                (request.message_id, request.reply_to, response)
            }
            Err(error) => (error.message_id, error.reply_to, error.response),
        };
        if let CbsResponse::Refused { status, description, .. } = &response {
            // Who asks without end must not fill the log.
            if self.authorizer.refusals_logged < REFUSALS_LOGGED_MAX {
                self.authorizer.refusals_logged += 1;
                tracing::info!(status, description, "put-token refused");
            } else {
                tracing::debug!(status, description, "put-token refused");
            }
        }
        self.respond(&route(reply_to), cbs::encode_response(message_id.as_ref(), &response));
    }

    fn put_token(&mut self, request: &PutToken) -> CbsResponse {
        match self.take_token(request) {
            Ok(()) => CbsResponse::Accepted,
            Err(NotTaken::Token(error)) => {
                self.in_refusal_context(&error, &request.audience, None, |context| {
                    CbsResponse::bad_token(&error, context)
                })
            }
            Err(NotTaken::Refused(refusal)) => {
                self.in_refusal_context(&refusal, &request.audience, None, |context| {
                    CbsResponse::refused(&refusal, context)
                })
            }
        }
    }

    /// Form, signature, key name and expiry first, then the entity; rights are looked at when a
    /// link attaches.
    fn take_token(&mut self, request: &PutToken) -> Result<(), NotTaken> {
        let audience = Audience::parse(&request.audience);
        let grant = self.check_token(&request.token, &audience).map_err(NotTaken::Token)?;
        if !audience.path().is_empty() {
            EntityAddress::parse(audience.path())
                .map_err(|_| Refusal::EntityNotFound)
                .and_then(|address| self.entity(&address))
                .map_err(NotTaken::Refused)?;
        }
        self.authorizer.add(grant).map_err(NotTaken::Refused)?;
        self.authentication_deadline = None;
        Ok(())
    }

    fn check_token(&self, token: &str, audience: &Audience) -> Result<Grant, TokenError> {
        let Some(namespace) = self.namespace_context() else {
            SasToken::parse(token)?;
            return Err(TokenError::InvalidSignature);
        };
        self.context.check_token(namespace, token, audience, self.identity.said_hosts(), self.now.utc)
    }
}
