//! The `$cbs` node: tokens that clients present (wire.md 2.3, semantics G-1 to G-7).

use bytes::Bytes;
use lockstep_model::{EntityAddress, Refusal};
use lockstep_protocol::{
    cbs::{self, CbsResponse, PutToken},
    conditions::RefusalContext,
    sas_token::{Audience, SasToken, TokenError},
};

use super::{Connection, authorizer::Grant, request_links::Route};
use crate::config::PolicyConfig;

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
            tracing::info!(status, description, "put-token refused");
        }
        self.respond(&route(reply_to), cbs::encode_response(message_id.as_ref(), &response));
    }

    /// Form, signature, key name and expiry first, then the entity; rights are looked at when a
    /// link attaches.
    fn put_token(&mut self, request: &PutToken) -> CbsResponse {
        let audience = Audience::parse(&request.audience);
        let tracking_id = self.random.next_guid_text();
        let host = self.identity.host(self.namespace_context());
        let context = RefusalContext::new(&host, &request.audience, &tracking_id, self.now.utc);
        let grant = match self.check_token(&request.token, &audience) {
            Ok(grant) => grant,
            Err(error) => return CbsResponse::bad_token(&error, &context),
        };
        if !audience.path().is_empty() {
            let known = EntityAddress::parse(audience.path())
                .map_err(|_| Refusal::EntityNotFound)
                .and_then(|address| self.entity(&address));
            if let Err(refusal) = known {
                return CbsResponse::refused(&refusal, &context);
            }
        }
        match self.authorizer.add(grant) {
            Ok(()) => {
                self.authentication_deadline = None;
                CbsResponse::Accepted
            }
            Err(refusal) => CbsResponse::refused(&refusal, &context),
        }
    }

    fn check_token(&self, token: &str, audience: &Audience) -> Result<Grant, TokenError> {
        let token = SasToken::parse(token)?;
        let Some(namespace) = self.namespace_context() else { return Err(TokenError::InvalidSignature) };
        let is_own_host = |host: &str| self.context.is_own_host(namespace, host, self.identity.said_hosts());
        let mut result = Err(TokenError::InvalidSignature);
        // Policies of the namespace and of entities may share a name; the one whose key signed counts.
        for policy in namespace.policies(token.policy_name()) {
            match token.check(keys(policy), audience, is_own_host, self.now.utc) {
                Ok(()) => {
                    return Ok(Grant {
                        path: audience.path().to_owned(),
                        policy_scope: policy.scope.clone(),
                        rights: policy.rights.clone(),
                        expires_at: Some(token.expires_at()),
                    });
                }
                Err(TokenError::InvalidSignature) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }
}

fn keys(policy: &PolicyConfig) -> impl Iterator<Item = &str> {
    std::iter::once(&policy.primary_key).chain(&policy.secondary_key).map(crate::config::Secret::expose)
}
