//! The administration plane over the same broker, and what links notice of it.

use lockstep_admin::Reply as AdminReply;
use lockstep_model::EntityStatus;
use lockstep_protocol::sas_token::{self, Audience, TokenError};

use super::*;
use crate::administration::{self, Head};

/// Seconds since the epoch long after every time of these tests.
const LATE: i64 = 4_000_000_000;

fn token(resource: &str, policy: &str, key: &str) -> Option<String> {
    Some(sas_token::mint(resource, policy, key, LATE))
}

impl World {
    fn ask(&self, head: Head, body: &str) -> AdminReply {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let body = Bytes::copy_from_slice(body.as_bytes());
        runtime.block_on(administration::answer(&self.context, &head, async { Ok(body) }))
    }

    /// Asks with a token of the policy that may do everything.
    fn administer(&self, method: &str, path: &str, body: &str) -> AdminReply {
        let authorization = token("https://localhost:5671", "all", "all-key");
        self.ask(Head { authorization, ..head(method, path) }, body)
    }
}

fn head(method: &str, path: &str) -> Head {
    let (method, if_match) =
        method.strip_prefix("If-Match ").map_or((method, false), |method| (method, true));
    let (method, path, host) = (method.to_owned(), path.to_owned(), Some("localhost:5671".to_owned()));
    Head {
        method,
        path,
        host,
        if_match,
        query: "api-version=2021-05".into(),
        is_tls: true,
        ..Head::default()
    }
}

fn queue(elements: &str) -> String {
    format!(
        "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content><QueueDescription \
         xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\">{elements}\
         </QueueDescription></content></entry>"
    )
}

fn status(reply: &AdminReply) -> (u16, bool) {
    (reply.status, reply.body.is_empty())
}

#[test]
fn a_queue_lives_from_its_creation_to_its_deletion() {
    let world = World::new();
    let created = world.administer("PUT", "/New", &queue("<LockDuration>PT30S</LockDuration>"));
    assert_eq!(created.status, 201);
    assert!(created.body.contains("<id>https://localhost:5671/New?api-version=2021-05</id>"), "{created:?}");
    let again = world.administer("PUT", "/new", &queue(""));
    assert_eq!(again.status, 409);
    assert!(again.body.contains("SubCode=40900. Conflict."), "{again:?}");
    let read = world.administer("GET", "/NEW", "");
    assert!(read.body.contains("<title type=\"text\">New</title>"), "{read:?}");
    assert!(read.body.contains("<LockDuration>PT30S</LockDuration>"), "{read:?}");
    // What was read is sent back, with one change.
    let changed = read.body.replace("PT30S", "PT45S");
    let updated = world.administer("If-Match PUT", "/New", &changed);
    assert_eq!(updated.status, 200);
    assert!(updated.body.contains("<LockDuration>PT45S</LockDuration>"), "{updated:?}");
    let flag = queue("<RequiresSession>true</RequiresSession>");
    assert_eq!(world.administer("If-Match PUT", "/New", &flag).status, 400);
    let list = world.administer("GET", "/$Resources/queues", "").body;
    let at = |name: &str| list.find(&format!("<title type=\"text\">{name}</title>")).expect("in the list");
    assert!(at("New") < at("orders"), "{list}");
    assert_eq!(status(&world.administer("DELETE", "/New", "")), (200, true));
    let gone = world.administer("GET", "/New", "");
    assert_eq!(gone.status, 200);
    assert!(gone.body.contains("Publicly Listed Services"), "{gone:?}");
    assert_eq!(world.administer("DELETE", "/New", "").status, 404);
    assert_eq!(world.administer("If-Match PUT", "/New", &queue("")).status, 404);
    let info = world.administer("GET", "/$namespaceinfo", "");
    assert!(info.body.contains("<Name>sbtest</Name>"), "{info:?}");
}

#[test]
fn whoever_shows_no_good_token_gets_401_without_a_body() {
    let world = World::new();
    let expired = sas_token::mint("sb://localhost", "all", "all-key", 0);
    let bearer = "Bearer eyJhbGciOiJub25lIn0.e30.".to_owned();
    for authorization in [
        None,
        Some(String::new()),
        Some(expired),
        Some(bearer),
        token("sb://localhost", "all", "wrong"),
        token("sb://localhost", "nobody", "all-key"),
        token("sb://elsewhere.example", "all", "all-key"),
        token("sb://localhost/other", "all", "all-key"),
    ] {
        for (method, path) in
            [("GET", "/orders"), ("GET", "/nothing"), ("PUT", "/x"), ("GET", "/$Resources/queues")]
        {
            let head = Head { authorization: authorization.clone(), ..head(method, path) };
            assert_eq!(status(&world.ask(head, "")), (401, true), "{authorization:?}");
        }
    }
    // A host is no part of a path: a token for one queue opens no other.
    let authorization = token("sb://localhost/other", "all", "all-key");
    let host = Some("localhost/other".to_owned());
    assert_eq!(status(&world.ask(Head { authorization, host, ..head("GET", "/orders") }, "")), (401, true));
    assert_eq!(world.administer("GET", "/x", "").status, 200, "nothing was created");
}

#[test]
fn a_key_without_manage_is_told_what_is_missing_and_nothing_else() {
    let world = World::new();
    let ask = |method: &str, path: &str| {
        let authorization = token("sb://localhost", "root", "key");
        world.ask(Head { authorization, ..head(method, path) }, &queue(""))
    };
    assert!(ask("GET", "/nothing").body.contains("Publicly Listed Services"));
    for (method, path, text) in [
        ("GET", "/orders", "<Detail>Manage,EntityRead claims required for this operation"),
        ("GET", "/$Resources/queues", "<Detail>Manage,EntityRead claims"),
        ("PUT", "/new", "Authorization failed for specified action: Manage,EntityWrite"),
        ("If-Match PUT", "/nothing", "Manage,EntityWrite"),
        ("DELETE", "/orders", "Authorization failed for specified action: Manage,EntityDelete."),
    ] {
        let reply = ask(method, path);
        assert_eq!(reply.status, 401);
        assert!(reply.body.contains(text), "{reply:?}");
    }
    assert!(world.administer("GET", "/new", "").body.contains("Publicly"), "nothing was created");
}

#[test]
fn tokens_in_the_forms_of_all_clients_are_good() {
    let world = World::new();
    let javascript = token("https://localhost:5671/orders/?api-version=2021-05", "all", "all-key");
    let ready_made = token("sb://localhost", "all", "all-key").map(|token| format!("Bearer {token}"));
    for authorization in [javascript, ready_made, token("localhost:5671", "all", "all-key")] {
        let read = world.ask(Head { authorization, ..head("GET", "/orders") }, "");
        assert!(read.status == 200 && read.body.contains("QueueDescription"), "{read:?}");
    }
}

#[test]
fn what_a_later_version_brings_is_answered_with_501_by_name() {
    let world = World::new();
    let reply = world.administer("PUT", "/new", &queue("<ForwardTo>sb://localhost/orders</ForwardTo>"));
    assert!(reply.status == 501 && reply.body.contains("ForwardTo"), "{reply:?}");
    let topic = queue("").replace("QueueDescription", "TopicDescription");
    let reply = world.administer("PUT", "/new", &topic);
    assert!(reply.status == 501 && reply.body.contains("topics"), "{reply:?}");
    assert_eq!(world.administer("PUT", "/t/subscriptions/s", "").status, 501);
    assert_eq!(world.administer("GET", "/t/subscriptions/s", "").status, 404);
    // JavaScript signs the URL of each request.
    let authorization =
        token("https://localhost:5671/t/Subscriptions/s?api-version=2021-05", "all", "all-key");
    assert_eq!(world.ask(Head { authorization, ..head("GET", "/t/Subscriptions/s") }, "").status, 404);
    assert!(world.administer("GET", "/$Resources/topics", "").body.contains(">Topics</title>"));
}

/// G-6.
#[test]
fn rules_of_a_queue_open_that_queue_until_an_update_drops_them() {
    let world = World::new();
    let key = "k".repeat(44);
    let rule = |name: &str, rights: &str| {
        format!(
            "<AuthorizationRule><Rights>{rights}</Rights><KeyName>{name}</KeyName>\
             <PrimaryKey>{key}</PrimaryKey></AuthorizationRule>"
        )
    };
    let rights = |names: &[&str]| -> String {
        names.iter().map(|name| format!("<AccessRights>{name}</AccessRights>")).collect()
    };
    let rules = rule("own", &rights(&["Manage", "Send", "Listen"])) + &rule("listen", &rights(&["Listen"]));
    let body = queue(&format!("<AuthorizationRules>{rules}</AuthorizationRules>"));
    assert_eq!(world.administer("PUT", "/new", &body).status, 201);
    let check = |policy: &str, resource: &str| {
        let token = token(resource, policy, &key).expect("a token");
        let (namespace, audience) = (&world.context.namespaces[0], Audience::parse(resource));
        let now = world.clock.now().utc;
        world.context.check_token(namespace, &token, &audience, [None; 3], now)
    };
    let grant = check("listen", "sb://localhost/new/$DeadLetterQueue").expect("good");
    assert_eq!((grant.rights, grant.policy_scope), (vec![Right::Listen], EntityName::new("NEW").ok()));
    for elsewhere in ["sb://localhost/orders", "sb://localhost", "sb://localhost/new2", "sb://localhost/$cbs"]
    {
        assert_eq!(check("own", elsewhere), Err(TokenError::InvalidSignature), "{elsewhere}");
    }
    let own = |method: &str, path: &str| {
        let authorization = token("https://localhost:5671/new", "own", &key);
        world.ask(Head { authorization, ..head(method, path) }, &queue("")).status
    };
    assert_eq!(
        (own("GET", "/new"), own("GET", "/orders"), own("GET", "/$Resources/queues")),
        (200, 401, 401)
    );
    // The rule itself may drop the rules.
    assert_eq!(own("If-Match PUT", "/new"), 200);
    assert_eq!(check("listen", "sb://localhost/new"), Err(TokenError::InvalidSignature));
    assert_eq!(own("GET", "/new"), 401);
}

fn condition(error: &Error) -> &str {
    error.condition.as_str()
}

impl Peer<'_> {
    fn detached(&mut self, count: usize) -> Vec<(LinkId, Error)> {
        let one = |peer: &mut Self| {
            peer.until("detach", |event| match event {
                Event::Detached { link, error: Some(error), .. } => Some((*link, error.clone())),
                _ => None,
            })
        };
        let mut detached: Vec<_> = (0..count).map(|_| one(self)).collect();
        detached.sort_by_key(|(link, _)| *link);
        detached
    }
}

/// G-82.
#[test]
fn deleting_a_queue_detaches_its_senders_receivers_and_request_links() {
    let world = World::new();
    world.administer("PUT", "/new", &queue(""));
    world.administer("PUT", "/other", &queue(""));
    let mut peer = world.connect("PLAIN", b"\0root\0key");
    let links: Vec<LinkId> = [
        (Role::Sender, "new"),
        (Role::Receiver, "new"),
        (Role::Receiver, "new/$DeadLetterQueue"),
        (Role::Sender, "new/$management"),
        (Role::Receiver, "new/$management"),
        (Role::Sender, "other"),
        (Role::Receiver, "other"),
    ]
    .into_iter()
    .map(|(role, address)| {
        // Links of one name and direction would take each other's place.
        let name = format!("{role:?} {address}").into();
        peer.attach(Attach { name, ..attach(role, address) }).expect(address)
    })
    .collect();
    assert_eq!(world.administer("DELETE", "/NEW", "").status, 200);
    let detached = peer.detached(5);
    assert_eq!(detached.iter().map(|(link, _)| *link).collect::<Vec<_>>(), links[..5]);
    for (_, error) in &detached {
        assert_eq!(condition(error), "amqp:not-found");
        assert!(error.description.as_deref().is_some_and(|text| text.contains("The messaging entity")));
    }
    let refused = peer.attach(attach(Role::Sender, "new")).expect_err("gone");
    assert_eq!(condition(&refused), "amqp:not-found");
    // Made again, it takes links again, and its deletion reaches those too.
    world.administer("PUT", "/new", &queue(""));
    let again = peer.attach(attach(Role::Sender, "new")).expect("there again");
    world.administer("DELETE", "/new", "");
    assert_eq!(peer.detached(1)[0].0, again);
    assert!(peer.events.iter().all(|event| !matches!(event, Event::Detached { .. })));
}

/// B-97, G-11.
#[test]
fn disabling_a_queue_detaches_receivers_and_other_updates_are_not_noticed() {
    let world = World::new();
    world.administer("PUT", "/new", &queue(""));
    let mut peer = world.connect("PLAIN", b"\0root\0key");
    peer.attach(attach(Role::Sender, "new")).expect("there");
    let receiver = peer.attach(attach(Role::Receiver, "new")).expect("there");
    let update = |elements: &str| world.administer("If-Match PUT", "/new", &queue(elements)).status;
    assert_eq!(update("<LockDuration>PT10S</LockDuration>"), 200);
    assert_eq!(update("<Status>SendDisabled</Status>"), 200);
    let mut other = world.connect("PLAIN", b"\0root\0key");
    let refused = other.attach(attach(Role::Sender, "new")).expect_err("disabled");
    assert_eq!(condition(&refused), "com.microsoft:entity-disabled");
    assert_eq!(update("<Status>Disabled</Status>"), 200);
    let detached = peer.detached(1);
    assert_eq!((detached[0].0, condition(&detached[0].1)), (receiver, "com.microsoft:entity-disabled"));
    assert_eq!(update("<Status>Active</Status>"), 200);
    assert!(other.attach(attach(Role::Sender, "new")).is_ok());
    let info = world.context.namespaces[0].client.lookup(&EntityName::new("new").expect("name"));
    assert_eq!(info.map(|info| info.description.status), Some(EntityStatus::Active));
}

/// A message that is under way when its queue goes has an outcome before the link ends.
#[test]
fn a_message_under_way_is_answered_before_its_link_ends() {
    let world = World::new();
    world.administer("PUT", "/new", &queue(""));
    let mut peer = world.connect("PLAIN", b"\0root\0key");
    let sender = peer.attach(attach(Role::Sender, "new")).expect("there");
    peer.until("credit", |event| matches!(event, Event::Credit { .. }).then_some(()));
    world.administer("DELETE", "/new", "");
    // The client does not know it yet, and neither does its connection when the message comes.
    let delivery = amqp::OutgoingDelivery {
        tag: Bytes::from_static(b"1"),
        message_format: 0,
        settled: false,
        prefix: Bytes::new(),
        rest: Bytes::from_static(b"\0Su\xa0\x01x"),
    };
    peer.client.send(sender, delivery).expect("credit");
    let sent = peer.client.transmit().to_vec();
    peer.client.transmitted(sent.len());
    peer.server.engine.receive_buffer().extend_from_slice(&sent);
    peer.server.process(world.clock.now());
    peer.server.settle_turn();
    let (mut outcome, mut error) = (None, None);
    peer.until("outcome and detach", |event| {
        match event {
            Event::Disposed { state, .. } => {
                assert!(error.is_none(), "the outcome comes first");
                outcome.clone_from(state);
            }
            Event::Detached { error: Some(told), .. } => error = Some(told.clone()),
            _ => {}
        }
        error.is_some().then_some(())
    });
    assert!(matches!(outcome, Some(DeliveryState::Outcome(Outcome::Rejected(Some(_))))), "{outcome:?}");
    assert_eq!(error.as_ref().map(condition), Some("amqp:not-found"));
}

/// B-98, D-11.
#[test]
fn a_queue_that_was_idle_for_too_long_takes_its_senders_with_it() {
    let world = World::new();
    world.administer("PUT", "/idle", &queue("<AutoDeleteOnIdle>PT5M</AutoDeleteOnIdle>"));
    let mut peer = world.connect("PLAIN", b"\0root\0key");
    let sender = peer.attach(attach(Role::Sender, "idle")).expect("there");
    world.clock.advance(Duration::from_secs(301));
    // The broker looks at its clock with every command, and once a second without any.
    world.administer("GET", "/orders", "");
    let detached = peer.detached(1);
    assert_eq!((detached[0].0, condition(&detached[0].1)), (sender, "amqp:not-found"));
    assert!(world.administer("GET", "/idle", "").body.contains("Publicly Listed Services"));
}
