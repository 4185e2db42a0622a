//! The administration plane at work: who asks, whether they may, what the broker says. What a
//! request means and how answers look is `lockstep_admin`'s business.

use std::{collections::VecDeque, future::Future};

use bytes::Bytes;
use lockstep_admin::{
    AdminError, ErrorContext, Reply,
    atom::{self, QueueProperties, QueueSnapshot, RequestUrl, RuntimeCounts},
    router::{self, Operation, Page},
};
use lockstep_broker::{
    core::{Command, Departure, Effect, EntitySnapshot, Existence, Reply as BrokerReply},
    runtime::{BrokerConnection, MemoryPressure, ToConnection},
};
use lockstep_model::{EntityName, QueueDescription, Refusal, RequestId};
use lockstep_protocol::sas_token::{Audience, TokenError};

use crate::{
    connection::authorizer::Grant,
    context::{NamespaceContext, ServerContext},
    random::Random,
};

/// Some clients put the name of another scheme before a token that they were given ready-made.
const BEARER: &str = "Bearer ";

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The method, in capitals.
    pub(crate) method: String,
    /// The path, with its escapes.
    pub(crate) path: String,
    /// The query, with its escapes; empty if there is none.
    pub(crate) query: String,
    /// `Host`, perhaps with a port.
    pub(crate) host: Option<String>,
    /// `Authorization`.
    pub(crate) authorization: Option<String>,
    /// Whether there is `If-Match`.
    pub(crate) if_match: bool,
    /// Whether it came over TLS.
    pub(crate) is_tls: bool,
    /// The host that the client named in its TLS handshake.
    pub(crate) sni: Option<String>,
}

/// Answers one request. The body is read only when it is wanted, by someone who may change
/// something.
pub(crate) async fn answer<B>(context: &ServerContext, head: &Head, body: B) -> Reply
where
    B: Future<Output = Result<Bytes, AdminError>> + Send,
{
    let said = [head.host.as_deref(), head.sni.as_deref(), None];
    let namespace = &context.namespaces[context.namespace_of(said)];
    let host = head.host.as_deref().unwrap_or(&namespace.config.name);
    let base = format!("{}://{host}", if head.is_tls { "https" } else { "http" });
    let url = RequestUrl {
        base: &base,
        path: &head.path,
        query: &head.query,
        namespace: &namespace.config.name,
        now: context.clock.now().utc,
    };
    let plane = Plane { context, namespace, host, url };
    match plane.answer(head, body).await {
        Ok(reply) => reply,
        Err(error) => {
            let tracking_id = Random::new().next_guid_text();
            tracing::debug!(tracking_id, method = head.method, path = head.path, ?error, "refused");
            let now = plane.url.now;
            error.reply(&ErrorContext { tracking_id: &tracking_id, host, path: &head.path, now })
        }
    }
}

struct Plane<'a> {
    context: &'a ServerContext,
    namespace: &'a NamespaceContext,
    host: &'a str,
    url: RequestUrl<'a>,
}

impl Plane<'_> {
    async fn answer<B>(&self, head: &Head, body: B) -> Result<Reply, AdminError>
    where
        B: Future<Output = Result<Bytes, AdminError>> + Send,
    {
        let request = router::Request {
            method: &head.method,
            path: &head.path,
            query: &head.query,
            if_match: head.if_match,
        };
        let operation = router::route(&request)?;
        let grant = self.authenticate(head, &operation)?;
        // What is not there may be known to everybody who has a key (semantics G-81).
        if let Operation::GetEntity(name) = &operation
            && self.namespace.client.lookup(name).is_none()
        {
            return Ok(self.missing());
        }
        if !grant.administers(operation.entity()) {
            return Err(AdminError::Unauthorized(operation.action()));
        }
        if self.context.memory.pressure() == MemoryPressure::Full {
            return Err(AdminError::Busy);
        }
        let body = if operation.takes_body() { body.await? } else { Bytes::new() };
        self.execute(operation, &body).await
    }

    /// Checks the token for what the request is about: an entity, a subscription, or a path of the
    /// namespace's own.
    fn authenticate(&self, head: &Head, operation: &Operation) -> Result<Grant, AdminError> {
        let Some(token) = head.authorization.as_deref() else {
            return Err(AdminError::Unauthenticated(
                "MissingToken: there is no Authorization header.".into(),
            ));
        };
        let scheme = token.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER));
        let token = scheme.map_or(token, |scheme| &token[scheme.len()..]);
        // Whose host is judged by the token's resource; what the client names as its host must not
        // get into the path.
        let path = match operation {
            Operation::Subscription(of) => format!("{}/subscriptions/{}", of.topic, of.below),
            other => other.entity().map_or(self.url.path, EntityName::key).to_owned(),
        };
        let audience = Audience::parse(&format!("host/{path}"));
        let said = [head.host.as_deref(), head.sni.as_deref(), None];
        let now = self.context.clock.now().utc;
        let grant = self.context.check_token(self.namespace, token, &audience, said, now);
        grant.map_err(|error: TokenError| AdminError::Unauthenticated(error.to_string()))
    }

    fn missing(&self) -> Reply {
        atom::missing_entity(&Random::new().next_guid_text(), self.url.now)
    }

    async fn execute(&self, operation: Operation, body: &[u8]) -> Result<Reply, AdminError> {
        match operation {
            Operation::GetNamespace => {
                let started_at = self.context.started_at;
                Ok(atom::namespace_info(&self.url, started_at, started_at))
            }
            Operation::ListQueues(page) => self.list(page).await,
            Operation::ListTopics(_) => Ok(atom::topic_feed(&self.url)),
            Operation::GetEntity(name) => Ok(match self.describe(&name).await? {
                Some(queue) => atom::queue_entry(&self.url, &queue),
                None => self.missing(),
            }),
            Operation::CreateEntity(name) => {
                let description = QueueProperties::parse(body)?.create(name.clone())?;
                let queue = self.define(description, Existence::New).await?;
                tracing::info!(queue = %name, namespace = %self.namespace.config.name, "queue created");
                Ok(atom::queue_created(&self.url, &queue, 201))
            }
            Operation::UpdateEntity(name) => {
                let properties = QueueProperties::parse(body)?;
                let Some(existing) = self.describe(&name).await? else { return Err(self.not_found(&name)) };
                let description = properties.update(&existing.description)?;
                let queue = self.define(description, Existence::Existing).await?;
                tracing::info!(queue = %name, namespace = %self.namespace.config.name, "queue updated");
                Ok(atom::queue_created(&self.url, &queue, 200))
            }
            Operation::DeleteEntity(name) => self.delete(&name).await,
            Operation::Subscription(operation) => Err(operation.refusal(&self.namespace.config.name)),
        }
    }

    fn entity_url(&self, name: &EntityName) -> String {
        format!("sb://{}/{name}", self.host)
    }

    fn not_found(&self, name: &EntityName) -> AdminError {
        AdminError::NotFound(self.entity_url(name))
    }

    async fn list(&self, Page { skip, top }: Page) -> Result<Reply, AdminError> {
        let (connection, request) = (self.namespace.client.connect(), RequestId(1));
        let asked = Command::ListQueues { skip, top, connection: connection.id(), request };
        match self.ask(connection, vec![asked]).await?.pop() {
            Some(BrokerReply::Listed(queues)) => {
                let queues: Vec<QueueSnapshot> = queues.into_iter().map(snapshot).collect();
                Ok(atom::queue_feed(&self.url, Page { skip, top }, &queues))
            }
            _ => Err(AdminError::Busy),
        }
    }

    async fn describe(&self, name: &EntityName) -> Result<Option<QueueSnapshot>, AdminError> {
        let (connection, request) = (self.namespace.client.connect(), RequestId(1));
        let (name, id) = (name.clone(), connection.id());
        match self
            .ask(connection, vec![Command::DescribeQueue { name, connection: id, request }])
            .await?
            .pop()
        {
            Some(BrokerReply::Described(queue)) => Ok(Some(snapshot(*queue))),
            Some(BrokerReply::Refused(Refusal::EntityNotFound)) => Ok(None),
            _ => Err(AdminError::Busy),
        }
    }

    /// Creates or changes a queue, durably, and says what it is like then.
    async fn define(
        &self,
        description: QueueDescription,
        existence: Existence,
    ) -> Result<QueueSnapshot, AdminError> {
        let connection = self.namespace.client.connect();
        let (id, name) = (connection.id(), description.name.clone());
        let description = Box::new(description);
        let commands = vec![
            Command::DefineQueue { description, existence, connection: id, request: RequestId(1) },
            Command::DescribeQueue { name: name.clone(), connection: id, request: RequestId(2) },
        ];
        let mut replies = self.ask(connection, commands).await?.into_iter();
        match (replies.next(), replies.next()) {
            (Some(BrokerReply::Defined(_)), Some(BrokerReply::Described(queue))) => Ok(snapshot(*queue)),
            (Some(BrokerReply::Refused(refusal)), _) => Err(self.refused(&name, &refusal)),
            // Somebody has deleted it in between.
            _ => Err(AdminError::Busy),
        }
    }

    async fn delete(&self, name: &EntityName) -> Result<Reply, AdminError> {
        let Some(entity) = self.namespace.client.lookup(name).map(|found| found.id) else {
            return Err(self.not_found(name));
        };
        let (connection, request) = (self.namespace.client.connect(), RequestId(1));
        let asked = Command::DeleteQueue { entity, connection: connection.id(), request };
        match self.ask(connection, vec![asked]).await?.pop() {
            Some(BrokerReply::Done) => {
                tracing::info!(queue = %name, namespace = %self.namespace.config.name, "queue deleted");
                Ok(Reply::deleted())
            }
            Some(BrokerReply::Refused(refusal)) => Err(self.refused(name, &refusal)),
            _ => Err(AdminError::Busy),
        }
    }

    fn refused(&self, name: &EntityName, refusal: &Refusal) -> AdminError {
        match refusal {
            Refusal::EntityAlreadyExists => AdminError::AlreadyExists(self.entity_url(name)),
            Refusal::EntityNotFound => self.not_found(name),
            Refusal::InvalidDescription(invalid) => AdminError::Invalid(format!("{invalid}.")),
            Refusal::ImmutableProperty(property) => {
                AdminError::Invalid(format!("The {property} of an existing Queue cannot be changed."))
            }
            Refusal::QuotaExceeded => AdminError::QuotaExceeded,
            _ => AdminError::Busy,
        }
    }

    /// Asks the broker; the replies in the order of the commands, whose requests count from 1.
    async fn ask(
        &self,
        connection: BrokerConnection,
        commands: Vec<Command>,
    ) -> Result<Vec<BrokerReply>, AdminError> {
        let count = commands.len();
        let waiter = connection.waiter();
        connection.submit(VecDeque::from(commands), self.context.clock.now());
        let (mut replies, mut items) = (Vec::with_capacity(count), Vec::new());
        while replies.len() < count {
            waiter.receive(&mut items).await;
            for item in items.drain(..) {
                if let ToConnection::Effect(Effect::Reply { reply, .. }) = item {
                    replies.push(reply);
                }
            }
        }
        connection.close(Departure::Clean, Vec::new());
        Ok(replies)
    }
}

fn snapshot(EntitySnapshot { description, counts, .. }: EntitySnapshot) -> QueueSnapshot {
    let counts = RuntimeCounts {
        active: counts.active,
        dead_letter: counts.dead_letter,
        scheduled: counts.scheduled,
        transfer: 0,
        transfer_dead_letter: counts.transfer_dead_letter,
        size_bytes: counts.size_bytes,
        accessed_at: counts.accessed_at,
    };
    QueueSnapshot { description, counts }
}
