//! Addresses of nodes, as clients of all kinds write them (wire.md 3.1).

use std::fmt;

use crate::{SubQueue, limits::ENTITY_NAME_CHARS_MAX};

/// The name of an entity: its spelling, compared without regard to ASCII or Unicode case.
#[derive(Clone, Debug)]
pub struct EntityName {
    spelled: Box<str>,
    key: Box<str>,
}

impl EntityName {
    /// Parses a queue's name (or a subscription's `topic/Subscriptions/name`): segments of
    /// letters, digits, `.`, `-`, `_`, separated by `/`; at most 260 characters.
    ///
    /// # Errors
    /// When it is empty, too long, or holds other characters or empty segments.
    pub fn new(name: &str) -> Result<Self, InvalidAddress> {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(InvalidAddress::Empty);
        }
        if name.chars().count() > ENTITY_NAME_CHARS_MAX {
            return Err(InvalidAddress::TooLong);
        }
        let valid = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.split('/').any(|segment| segment.is_empty() || !segment.chars().all(valid)) {
            return Err(InvalidAddress::Character);
        }
        Ok(Self { spelled: name.into(), key: name.to_lowercase().into() })
    }

    /// The name as it was first spelled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.spelled
    }

    /// The form by which names are compared.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl PartialEq for EntityName {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for EntityName {}
impl std::hash::Hash for EntityName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}
impl PartialOrd for EntityName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for EntityName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}
impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled)
    }
}

/// Which node of an entity an address means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// Its messages.
    Messages,
    /// Its `$management` node.
    Management,
}

/// An address taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityAddress {
    /// The entity.
    pub entity: EntityName,
    /// Its message store.
    pub sub_queue: SubQueue,
    /// Messages or management.
    pub node: NodeKind,
}

/// Why a text is no address of an entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidAddress {
    /// Nothing is left after scheme, host and slashes.
    #[error("the address names no entity")]
    Empty,
    /// Longer than 260 characters.
    #[error("an entity name has at most {ENTITY_NAME_CHARS_MAX} characters")]
    TooLong,
    /// A character or segment that no entity name has.
    #[error(
        "entity names contain only letters, numbers, periods, hyphens and underscores, in segments separated by '/'"
    )]
    Character,
}

impl EntityAddress {
    /// Takes an address apart: an optional scheme and authority, slashes around it and
    /// percent-escapes are removed; `$management`, `$DeadLetterQueue` and
    /// `$Transfer/$DeadLetterQueue` at the end are recognised in any letter case. Does not look
    /// whether the entity exists.
    ///
    /// # Errors
    /// When no valid entity name is left.
    pub fn parse(address: &str) -> Result<Self, InvalidAddress> {
        let path = match address.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => address,
        };
        let path = percent_decode(path).ok_or(InvalidAddress::Character)?;
        let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let mut node = NodeKind::Messages;
        if pop_if(&mut segments, "$management") {
            node = NodeKind::Management;
        }
        let mut sub_queue = SubQueue::Main;
        if pop_if(&mut segments, "$DeadLetterQueue") {
            sub_queue = SubQueue::DeadLetter;
            if pop_if(&mut segments, "$Transfer") {
                sub_queue = SubQueue::TransferDeadLetter;
            }
        }
        Ok(Self { entity: EntityName::new(&segments.join("/"))?, sub_queue, node })
    }

    /// Topic and subscription, if the address names a subscription.
    #[must_use]
    pub fn subscription(&self) -> Option<(&str, &str)> {
        let name = self.entity.as_str();
        let (topic_end, sub_start) = name.match_indices('/').find_map(|(at, _)| {
            let rest = &name[at + 1..];
            let (word, _) = rest.split_once('/')?;
            word.eq_ignore_ascii_case("subscriptions").then_some((at, at + 1 + word.len() + 1))
        })?;
        Some((&name[..topic_end], &name[sub_start..]))
    }
}

fn pop_if(segments: &mut Vec<&str>, word: &str) -> bool {
    let found = segments.last().is_some_and(|last| last.eq_ignore_ascii_case(word));
    if found {
        segments.pop();
    }
    found
}

/// Decodes `%XX`; `None` if the result is not UTF-8 or an escape is broken.
#[must_use]
pub fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || (rest.next()? as char).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(address: &str) -> (String, SubQueue, NodeKind) {
        let address = EntityAddress::parse(address).expect(address);
        (address.entity.to_string(), address.sub_queue, address.node)
    }

    #[test]
    fn every_client_spelling_of_a_queue_is_the_same_queue() {
        for spelled in ["q1", "/q1", "amqps://ns.example/q1", "sb://ns/q1/", "amqps://ns:5671/%71%31"] {
            assert_eq!(parts(spelled), ("q1".into(), SubQueue::Main, NodeKind::Messages), "{spelled}");
        }
    }

    #[test]
    fn sub_queues_and_management_are_recognised_in_any_case() {
        assert_eq!(parts("a/b/$deadletterqueue"), ("a/b".into(), SubQueue::DeadLetter, NodeKind::Messages));
        assert_eq!(
            parts("q/$Transfer/$DeadLetterQueue"),
            ("q".into(), SubQueue::TransferDeadLetter, NodeKind::Messages)
        );
        assert_eq!(
            parts("q/$DeadLetterQueue/$management"),
            ("q".into(), SubQueue::DeadLetter, NodeKind::Management)
        );
    }

    #[test]
    fn subscriptions_are_told_apart_from_hierarchical_names() {
        let address = EntityAddress::parse("t/x/subscriptions/s").expect("valid");
        assert_eq!(address.subscription(), Some(("t/x", "s")));
        assert_eq!(EntityAddress::parse("t/subscriptions").expect("valid").subscription(), None);
    }

    #[test]
    fn addresses_without_an_entity_are_refused() {
        for bad in ["", "/", "sb://host", "sb://host/", "$management", "q//r", "q?x", "q%zz", "q%"] {
            assert!(EntityAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
