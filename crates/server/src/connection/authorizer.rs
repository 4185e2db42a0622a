//! What one connection may do: the rights its credentials gave it, and until when.

use lockstep_model::{EntityAddress, EntityName, Refusal, Right, SubQueue, Timestamp};

/// Tokens that one connection may hold at a time; a put-token replaces an earlier one for the
/// same audience.
const GRANTS_MAX: usize = 10_000;

/// Rights that one credential gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    /// The normalised path below the host that the credential is for; empty for the whole
    /// namespace.
    pub(crate) path: String,
    /// The entity to which the policy itself is limited; `None` for the whole namespace.
    pub(crate) policy_scope: Option<EntityName>,
    /// What it gives.
    pub(crate) rights: Vec<Right>,
    /// When it ends; `None` for a password or certificate, which lasts as long as the connection.
    pub(crate) expires_at: Option<Timestamp>,
}

impl Grant {
    fn covers(&self, path: &str, right: Right) -> bool {
        (self.rights.contains(&right) || self.rights.contains(&Right::Manage))
            && covers_path(&self.path, path)
            && self.policy_scope.as_ref().is_none_or(|scope| covers_path(scope.key(), path))
    }
}

impl Grant {
    /// Whether it gives the administration plane of an entity, or of the whole namespace.
    pub(crate) fn administers(&self, entity: Option<&EntityName>) -> bool {
        let within = |scope: &EntityName| entity.is_some_and(|entity| covers_path(scope.key(), entity.key()));
        self.rights.contains(&Right::Manage) && self.policy_scope.as_ref().is_none_or(within)
    }
}

/// The path of a message store, in the form of [`Grant::path`].
fn path(address: &EntityAddress) -> String {
    let below = match address.sub_queue {
        SubQueue::Main => "",
        SubQueue::DeadLetter => "/$deadletterqueue",
        SubQueue::TransferDeadLetter => "/$transfer/$deadletterqueue",
    };
    format!("{}{below}", address.entity.key())
}

/// Whether a newer token takes the place of an earlier one. Tokens only add to what the connection
/// itself was authenticated for.
fn is_replaced(earlier: &Grant, newer: &Grant) -> bool {
    earlier.path == newer.path && earlier.expires_at.is_some() == newer.expires_at.is_some()
}

/// Whether `prefix` is `path` itself or a node above it.
fn covers_path(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
        // A token for the entity's management node speaks for the entity: clients ask for one per
        // node.
        || prefix.strip_prefix(path).is_some_and(|rest| rest == "/$management")
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    grants: Vec<Grant>,
    /// Refused tokens that stand in the log.
    pub(super) refusals_logged: u32,
}

impl Authorizer {
    /// Adds a grant; a token's in place of an earlier token's for the same path.
    ///
    /// # Errors
    /// When the connection holds too many.
    pub(crate) fn add(&mut self, grant: Grant) -> Result<(), Refusal> {
        if let Some(earlier) = self.grants.iter_mut().find(|earlier| is_replaced(earlier, &grant)) {
            *earlier = grant;
            return Ok(());
        }
        if self.grants.len() >= GRANTS_MAX {
            return Err(Refusal::ServerBusy);
        }
        self.grants.push(grant);
        Ok(())
    }

    /// Whether any credential was presented yet.
    pub(crate) fn is_authenticated(&self) -> bool {
        !self.grants.is_empty()
    }

    /// Checks one right on an entity. Grants that ran out do not count.
    ///
    /// # Errors
    /// `Unauthorized`, or `TokenExpired` if a grant gave the right and ran out.
    pub(crate) fn check(&self, address: &EntityAddress, right: Right, now: Timestamp) -> Result<(), Refusal> {
        let mut refusal = Refusal::Unauthorized(right);
        let path = path(address);
        for grant in self.grants.iter().filter(|grant| grant.covers(&path, right)) {
            if grant.expires_at.is_none_or(|end| now < end) {
                return Ok(());
            }
            refusal = Refusal::TokenExpired;
        }
        Err(refusal)
    }

    /// When the next grant after `seen_to` runs out, or ran out.
    pub(crate) fn next_expiry(&self, seen_to: Timestamp) -> Option<Timestamp> {
        self.grants.iter().filter_map(|grant| grant.expires_at).filter(|end| *end > seen_to).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(path: &str, rights: &[Right], expires_at: Option<i64>) -> Grant {
        Grant {
            path: path.into(),
            policy_scope: None,
            rights: rights.to_vec(),
            expires_at: expires_at.map(Timestamp::from_unix_millis),
        }
    }

    fn check(authorizer: &Authorizer, address: &str, right: Right, now: i64) -> Result<(), Refusal> {
        let address = EntityAddress::parse(address).expect("address");
        authorizer.check(&address, right, Timestamp::from_unix_millis(now))
    }

    #[test]
    fn a_token_for_the_namespace_root_covers_every_entity() {
        let mut authorizer = Authorizer::default();
        authorizer.add(grant("", &[Right::Listen], None)).expect("room");
        assert_eq!(check(&authorizer, "a/b/$DeadLetterQueue", Right::Listen, 0), Ok(()));
        assert_eq!(check(&authorizer, "a", Right::Send, 0), Err(Refusal::Unauthorized(Right::Send)));
    }

    #[test]
    fn a_token_adds_to_what_the_connection_was_authenticated_for() {
        let mut authorizer = Authorizer::default();
        authorizer.add(grant("q", &[Right::Listen], None)).expect("room");
        authorizer.add(grant("q", &[Right::Send], Some(100))).expect("room");
        assert_eq!(check(&authorizer, "q", Right::Send, 0), Ok(()));
        assert_eq!(check(&authorizer, "q", Right::Send, 100), Err(Refusal::TokenExpired));
        assert_eq!(check(&authorizer, "q", Right::Listen, 100), Ok(()), "no token gave it, none takes it");
    }

    #[test]
    fn a_token_for_one_queue_covers_what_lies_beneath_it_only() {
        let mut authorizer = Authorizer::default();
        authorizer.add(grant("orders", &[Right::Manage], None)).expect("room");
        assert_eq!(check(&authorizer, "Orders/sub", Right::Send, 0), Ok(()));
        assert!(check(&authorizer, "orders2", Right::Send, 0).is_err());
    }

    #[test]
    fn a_token_for_the_management_node_speaks_for_its_entity() {
        let mut authorizer = Authorizer::default();
        authorizer.add(grant("orders/$management", &[Right::Listen], None)).expect("room");
        assert_eq!(check(&authorizer, "orders/$management", Right::Listen, 0), Ok(()));
    }

    #[test]
    fn a_token_for_a_dead_letter_queue_does_not_open_the_queue() {
        let mut authorizer = Authorizer::default();
        authorizer.add(grant("orders/$deadletterqueue", &[Right::Listen], None)).expect("room");
        assert_eq!(check(&authorizer, "orders/$DeadLetterQueue", Right::Listen, 0), Ok(()));
        assert_eq!(check(&authorizer, "orders/$DeadLetterQueue/$management", Right::Listen, 0), Ok(()));
        assert!(check(&authorizer, "orders", Right::Listen, 0).is_err());
    }

    #[test]
    fn an_expired_token_is_told_from_a_missing_right() {
        let mut authorizer = Authorizer::default();
        authorizer.add(grant("", &[Right::Send], Some(100))).expect("room");
        assert_eq!(check(&authorizer, "q", Right::Send, 99), Ok(()));
        assert_eq!(check(&authorizer, "q", Right::Send, 100), Err(Refusal::TokenExpired));
        authorizer.add(grant("", &[Right::Send], Some(200))).expect("room");
        assert_eq!(check(&authorizer, "q", Right::Send, 100), Ok(()));
    }
}
