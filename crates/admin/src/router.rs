//! Which operation a request asks for (admin.md 1.1, 1.2): by method, path and query alone.

use lockstep_model::{EntityName, limits::ENTITIES_LISTED_MAX, percent_decode};

use crate::{Action, AdminError};

/// The head of a request, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path, with its escapes.
    pub path: &'a str,
    /// The query, with its escapes; empty if there is none.
    pub query: &'a str,
    /// Whether it has `If-Match`: an update, where PUT without it creates.
    pub if_match: bool,
}

/// Part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// `$skip`: entries left out.
    pub skip: u32,
    /// `$top`: entries at the most; 100 unless the client says less.
    pub top: u32,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Properties of the namespace.
    GetNamespace,
    /// One page of the queues.
    ListQueues(Page),
    /// One page of the topics. There are none yet.
    ListTopics(Page),
    /// Properties and counts of the queue (or, later, topic) of that name.
    GetEntity(EntityName),
    /// A new queue; a topic, if the body says so.
    CreateEntity(EntityName),
    /// New properties for a queue that is there.
    UpdateEntity(EntityName),
    /// Removes a queue.
    DeleteEntity(EntityName),
    /// Something about subscriptions.
    Subscription(SubscriptionOperation),
}

/// A request about subscriptions or rules, which come later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionOperation {
    /// What it does.
    pub action: Action,
    /// Of which topic.
    pub topic: EntityName,
    /// What stands behind `/subscriptions/`: names a subscription, perhaps its rules.
    pub below: String,
}

impl SubscriptionOperation {
    /// What it is answered while there are no topics: by name if it would create something, else
    /// that the subscription is not there.
    #[must_use]
    pub fn refusal(&self, namespace: &str) -> AdminError {
        let mut names = self.below.split('/');
        let (subscription, of_rules) = (names.next().unwrap_or(""), names.next().is_some());
        match (self.action, of_rules) {
            (Action::Write, true) => AdminError::NotSupported("rules of subscriptions"),
            (Action::Write, false) => AdminError::NotSupported("topics and subscriptions"),
            _ => AdminError::SubscriptionNotFound(format!("{namespace}:Topic:{}|{subscription}", self.topic)),
        }
    }
}

impl Operation {
    /// What it does, for the question of rights.
    #[must_use]
    pub const fn action(&self) -> Action {
        match self {
            Self::GetNamespace | Self::ListQueues(_) | Self::ListTopics(_) | Self::GetEntity(_) => {
                Action::Read
            }
            Self::CreateEntity(_) | Self::UpdateEntity(_) => Action::Write,
            Self::DeleteEntity(_) => Action::Delete,
            Self::Subscription(operation) => operation.action,
        }
    }

    /// The entity that it is about; none if about the whole namespace.
    #[must_use]
    pub const fn entity(&self) -> Option<&EntityName> {
        match self {
            Self::GetNamespace | Self::ListQueues(_) | Self::ListTopics(_) => None,
            Self::GetEntity(name)
            | Self::CreateEntity(name)
            | Self::UpdateEntity(name)
            | Self::DeleteEntity(name) => Some(name),
            Self::Subscription(operation) => Some(&operation.topic),
        }
    }

    /// Whether the body of the request is looked at.
    #[must_use]
    pub const fn takes_body(&self) -> bool {
        matches!(self, Self::CreateEntity(_) | Self::UpdateEntity(_))
    }
}

/// Decides what a request asks for. Fixed words are recognised in any letter case, slashes at the
/// end do not count, and `%2F` is a slash.
///
/// # Errors
/// Another method, a path that no entity can have, or `$skip` and `$top` that are no numbers.
pub fn route(request: &Request<'_>) -> Result<Operation, AdminError> {
    let action = match request.method {
        "GET" => Action::Read,
        "PUT" => Action::Write,
        "DELETE" => Action::Delete,
        _ => return Err(AdminError::MethodNotAllowed),
    };
    let invalid = || AdminError::InvalidName(request.path.to_owned());
    let path = percent_decode(request.path).ok_or_else(invalid)?;
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.first().is_some_and(|first| first.starts_with('$')) {
        if action != Action::Read {
            return Err(AdminError::MethodNotAllowed);
        }
        return fixed(&segments, request.query).unwrap_or_else(|| Err(invalid()));
    }
    let subscriptions = segments.iter().position(|segment| segment.eq_ignore_ascii_case("subscriptions"));
    if let Some(at) = subscriptions.filter(|at| *at > 0) {
        let topic = EntityName::new(&segments[..at].join("/")).map_err(|_| invalid())?;
        let below = segments[at + 1..].join("/");
        return Ok(Operation::Subscription(SubscriptionOperation { action, topic, below }));
    }
    // Not from the segments: two slashes in a row are no name.
    let name = EntityName::new(&path).map_err(|_| invalid())?;
    Ok(match action {
        Action::Read => Operation::GetEntity(name),
        Action::Write if request.if_match => Operation::UpdateEntity(name),
        Action::Write => Operation::CreateEntity(name),
        Action::Delete => Operation::DeleteEntity(name),
    })
}

/// `$namespaceinfo` and the lists.
fn fixed(segments: &[&str], query: &str) -> Option<Result<Operation, AdminError>> {
    let is =
        |at: usize, word: &str| segments.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word));
    match segments.len() {
        1 if is(0, "$namespaceinfo") => Some(Ok(Operation::GetNamespace)),
        2 if is(0, "$resources") && is(1, "queues") => Some(page(query).map(Operation::ListQueues)),
        2 if is(0, "$resources") && is(1, "topics") => Some(page(query).map(Operation::ListTopics)),
        _ => None,
    }
}

fn page(query: &str) -> Result<Page, AdminError> {
    let number = |name: &str, default: u32| match parameter(query, name) {
        None => Ok(default),
        Some(text) => text.parse::<u32>().map_err(|_| {
            AdminError::Invalid(format!("The value '{text}' of {name} is no number from 0 on."))
        }),
    };
    let top = number("$top", ENTITIES_LISTED_MAX)?.min(ENTITIES_LISTED_MAX);
    Ok(Page { skip: number("$skip", 0)?, top })
}

/// The value of a parameter of a query, without escapes; names in any letter case.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_it = percent_decode(key).is_some_and(|key| key.eq_ignore_ascii_case(name));
        is_it.then(|| percent_decode(value)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, query: &str) -> Result<Operation, AdminError> {
        route(&Request { method, path, query, if_match: false })
    }

    fn name(name: &str) -> EntityName {
        EntityName::new(name).expect("valid")
    }

    #[test]
    fn fixed_paths_are_found_in_any_letter_case() {
        assert_eq!(asked("GET", "/$namespaceinfo", ""), Ok(Operation::GetNamespace));
        assert_eq!(asked("GET", "/%24NamespaceInfo/", "api-version=1"), Ok(Operation::GetNamespace));
        let all = Page { skip: 0, top: 100 };
        assert_eq!(asked("GET", "/$Resources/Queues", ""), Ok(Operation::ListQueues(all)));
        assert_eq!(asked("GET", "/$resources/topics/", ""), Ok(Operation::ListTopics(all)));
        assert_eq!(asked("PUT", "/$Resources/Queues", ""), Err(AdminError::MethodNotAllowed));
        assert!(matches!(asked("GET", "/$Resources/Relays", ""), Err(AdminError::InvalidName(_))));
    }

    #[test]
    fn pages_are_asked_for_with_and_without_escapes() {
        let page = |query| match asked("GET", "/$Resources/Queues", query) {
            Ok(Operation::ListQueues(page)) => Ok((page.skip, page.top)),
            other => Err(other),
        };
        assert_eq!(page("?&$top=2"), Ok((0, 2)));
        assert_eq!(page("api-version=2021-05&%24skip=7&%24top=3"), Ok((7, 3)));
        assert_eq!(page("$skip=0&$top=1000&enrich=False"), Ok((0, 100)));
        for bad in ["$top=-1", "$skip=x", "$top=99999999999"] {
            assert!(matches!(page(bad), Err(Err(AdminError::Invalid(_)))), "{bad}");
        }
    }

    #[test]
    fn an_entity_is_read_created_updated_and_deleted_by_its_path() {
        assert_eq!(asked("GET", "/Orders/eu/", "x"), Ok(Operation::GetEntity(name("orders/EU"))));
        assert_eq!(asked("GET", "/Orders%2Feu", "x"), Ok(Operation::GetEntity(name("orders/EU"))));
        assert_eq!(asked("PUT", "/q", ""), Ok(Operation::CreateEntity(name("q"))));
        let update = Request { method: "PUT", path: "/q", query: "", if_match: true };
        assert_eq!(route(&update), Ok(Operation::UpdateEntity(name("q"))));
        assert_eq!(asked("DELETE", "/q", ""), Ok(Operation::DeleteEntity(name("q"))));
        assert_eq!(asked("POST", "/q", ""), Err(AdminError::MethodNotAllowed));
    }

    #[test]
    fn paths_that_no_entity_has_are_refused() {
        for bad in ["/", "//", "/a//b", "/a%3Fb", "/a*", "/%zz", "/%ff", "/a b"] {
            assert!(matches!(asked("PUT", bad, ""), Err(AdminError::InvalidName(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_about_subscriptions_is_told_apart() {
        let refusal = |method: &str, path: &str| match asked(method, path, "") {
            Ok(Operation::Subscription(operation)) => operation.refusal("ns").to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal("GET", "/t/x/Subscriptions/s"), "Entity 'ns:Topic:t/x|s' was not found.");
        assert_eq!(refusal("DELETE", "/t/subscriptions/s/rules/r"), "Entity 'ns:Topic:t|s' was not found.");
        assert!(refusal("PUT", "/t/subscriptions/s").contains("topics and subscriptions"));
        assert!(refusal("PUT", "/t/subscriptions/s/rules/r").contains("rules"));
        assert_eq!(asked("GET", "/subscriptions", ""), Ok(Operation::GetEntity(name("subscriptions"))));
    }
}
