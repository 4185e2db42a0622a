import math
import uuid

import pytest
from proton import (
    UNDESCRIBED,
    Array,
    ConnectionException,
    Condition,
    Data,
    Delivery,
    Link,
    Message,
    byte,
    char,
    decimal128,
    float32,
    int32,
    short,
    symbol,
    timestamp,
    ubyte,
    uint,
    ulong,
    ushort,
)
from proton.utils import LinkDetached

from harness import (
    bodies,
    certificate_file,
    flush,
    let_time_pass,
    lock_tokens,
    policies,
    refused,
    sas_token,
    settle,
    wait_until,
)
from snippets import RequestRefused


def test_generic_send_receive_and_complete(s):
    with pytest.raises(ConnectionException, match="[Aa]uthentication"):
        s.connect(password=policies()["send-only"])

    # Over TLS in, over plain TCP out.
    secure = s.connect("amqps", ssl_domain=s.trusting())
    numbers = range(1, 6)
    s.put(secure, *[Message(f"body {n}", id=f"id {n}", subject="of five", properties={"n": n}) for n in numbers])

    connection = s.connect()
    inbox = s.inbox(connection)
    for n, (message, delivery) in zip(numbers, inbox.receive(5)):
        assert message.body == f"body {n}"
        assert message.id == f"id {n}"
        assert message.subject == "of five"
        assert message.properties == {"n": n}
        assert message.delivery_count == 0
        assert message.annotations["x-opt-sequence-number"] == n
        assert not delivery.settled
        settle(delivery)
    assert inbox.is_empty()
    inbox.close()
    assert s.inbox(connection).is_empty()
    assert s.peek(s.management(connection)) == []


def test_generic_anonymous_and_a_cbs_token(s):
    connection = s.connect(user=None, password=None, allowed_mechs="ANONYMOUS")
    refused(LinkDetached, "amqp:unauthorized-access", lambda: s.sender(connection))
    refused(LinkDetached, "amqp:unauthorized-access", lambda: s.inbox(connection))

    requests = connection.create_sender("$cbs")
    answers = connection.create_receiver("$cbs", name="cbs-answers")
    resource = f"sb://localhost/{s.queue}"

    def put_token(token):
        properties = {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": resource}
        requests.send(Message(token, id=ulong(7), reply_to="cbs-answers", properties=properties))
        answer = answers.receive()
        assert answer.correlation_id == 7
        return answer.properties

    answer = put_token(sas_token(resource) + "x")
    assert answer["status-code"] == 401
    assert answer["error-condition"] == "amqp:unauthorized-access"
    refused(LinkDetached, "amqp:unauthorized-access", lambda: s.sender(connection))

    assert put_token(sas_token(resource))["status-code"] == 202
    s.put(connection, "with a token")
    message, delivery = s.inbox(connection).receive_one()
    assert message.body == "with a token"
    settle(delivery)
    refused(LinkDetached, "amqp:unauthorized-access", lambda: s.inbox(connection, "generic_receive_and_delete"))


# Proton decodes into these, so that `==` and `type` tell whether a type survived.
TYPED = {
    "string": "ä€😀",
    "yes": True,
    "no": False,
    "ubyte": ubyte(255),
    "ushort": ushort(65_535),
    "uint": uint(4_294_967_295),
    "ulong": ulong(18_446_744_073_709_551_615),
    "byte": byte(-128),
    "short": short(-32_768),
    "int": int32(-2_147_483_648),
    "long": -9_223_372_036_854_775_808,
    "float": float32(0.5),
    "double": math.pi,
    "decimal": decimal128(bytes(range(16))),
    "char": char("😀"),
    "timestamp": timestamp(-1),
    "uuid": uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"),
    "binary": b"\0\xff",
    "symbol": symbol("symbol"),
    "nothing": None,
}


def type_of(value):
    """Proton decodes binary into memoryview."""
    return bytes if isinstance(value, memoryview) else type(value)


def assert_same(found, expected):
    assert found == expected
    types = {name: type_of(value) for name, value in found.items()}
    assert types == {name: type(value) for name, value in expected.items()}


def test_generic_every_body_kind_and_property_survives(s):
    connection = s.connect()
    inbox = s.inbox(connection)
    inferred = [b"\0\1\2\xff", b"", ["a", 1, None, True], []]
    values = [
        "a string",
        "",
        None,
        True,
        -5,
        ulong(4_000_000_000),
        1.5,
        {"map": {"nested": ["list", 1]}},
        ["list", "as", "value"],
        b"binary as value",
        symbol("symbol"),
        Array(UNDESCRIBED, Data.INT, 1, 2, 3),
        TYPED,
    ]
    sent = [(body, True) for body in inferred] + [(body, False) for body in values]
    s.put(connection, *[Message(body, inferred=kind) for body, kind in sent])
    for (body, kind), (message, delivery) in zip(sent, inbox.receive(len(sent))):
        assert message.body == body
        assert type_of(message.body) is type(body)
        assert message.inferred is kind or body is None
        settle(delivery)

    properties = {
        "user_id": b"user",
        "address": "to",
        "subject": "subject",
        "reply_to": "reply to",
        "content_type": symbol("text/plain"),
        "content_encoding": symbol("gzip"),
        "creation_time": 1_700_000_000.123,
        "group_id": "group",
        "group_sequence": 2_000_000_000,
        "reply_to_group_id": "reply group",
        "durable": True,
        "priority": 7,
    }
    # An id may be ulong, but no other number; Proton decodes it into int.
    ids = ["an id", 18_446_744_073_709_551_615, TYPED["uuid"], b"bytes"]
    mine = {symbol("x-mine"): "kept", symbol("x-opt-number"): ushort(5)}
    s.put(
        connection,
        *[
            Message("x", id=id, correlation_id=id, properties=TYPED, annotations=mine, instructions=mine, **properties)
            for id in ids
        ],
    )
    for id, (message, delivery) in zip(ids, inbox.receive(len(ids))):
        assert (message.id, type_of(message.id)) == (id, type(id))
        assert (message.correlation_id, type_of(message.correlation_id)) == (id, type(id))
        for name, value in properties.items():
            assert getattr(message, name) == value, name
        assert_same(message.properties, TYPED)
        for annotations in (message.annotations, message.instructions):
            assert_same({name: annotations[name] for name in mine}, mine)
        assert type(message.annotations["x-opt-locked-until"]) is timestamp
        assert type(message.instructions["x-opt-lock-token"]) is uuid.UUID
        settle(delivery)
    assert inbox.is_empty()


def test_generic_a_message_in_many_frames(s):
    # Larger than the frames of either side: the broker's are 256 KiB at most, this client's 512 bytes.
    connection = s.connect(max_frame_size=512)
    large = b"".join(n.to_bytes(4, "big") for n in range(175_000))
    s.put(connection, Message(large, inferred=True), "after it")
    first, second = s.inbox(connection).receive(2)
    assert first[0].body == large
    assert second[0].body == "after it"


def test_generic_outcomes_accepted_released_modified_rejected(s):
    connection = s.connect()
    s.put(connection, "accepted", "released", "modified", "rejected")
    inbox = s.inbox(connection)
    accepted, released, modified, rejected = [delivery for _, delivery in inbox.receive(4)]
    settle(accepted)
    settle(released, Delivery.RELEASED)
    modified.local.failed = True
    modified.local.annotations = {symbol("why"): "tried"}
    settle(modified, Delivery.MODIFIED)
    info = {"DeadLetterReason": "bad", "DeadLetterErrorDescription": "very bad", "more": 1}
    rejected.local.condition = Condition("my:condition", "not used", {symbol(name): info[name] for name in info})
    settle(rejected, Delivery.REJECTED)
    flush(connection)

    first, second = inbox.receive(2)
    assert (first[0].body, first[0].delivery_count) == ("released", 0)
    assert (second[0].body, second[0].delivery_count) == ("modified", 1)
    assert second[0].properties == {"why": "tried"}
    settle(first[1])
    settle(second[1])
    assert inbox.is_empty()

    dead = s.inbox(connection, f"{s.queue}/$DeadLetterQueue")
    letter, delivery = dead.receive_one()
    assert (letter.body, letter.delivery_count) == ("rejected", 0)
    assert letter.properties == info
    settle(delivery)
    assert dead.is_empty()


def test_generic_receive_and_delete(s):
    connection = s.connect()
    s.put(connection, "one", "two", "three")
    inbox = s.inbox(connection, snd_settle_mode=Link.SND_SETTLED)
    assert inbox.link.remote_snd_settle_mode == Link.SND_SETTLED
    received = inbox.receive(2)
    assert bodies(received) == ["one", "two"]
    for message, delivery in received:
        assert delivery.settled
        assert "x-opt-lock-token" not in (message.instructions or {})
    inbox.close()
    rest = s.inbox(connection)
    assert bodies(rest.receive(1)) == ["three"]
    assert rest.is_empty()


def test_generic_the_receiver_settles_second(s):
    connection = s.connect()
    s.put(connection, "accepted", "released", "modified", "rejected", "late")
    inbox = s.inbox(connection, rcv_settle_mode=Link.RCV_SECOND)
    assert inbox.link.remote_rcv_settle_mode == Link.RCV_SECOND
    (_, accepted), (_, released), (_, modified), (_, rejected), (message, late) = inbox.receive(5)
    assert inbox.confirmed(accepted, Delivery.ACCEPTED) == (Delivery.ACCEPTED, None)
    assert inbox.confirmed(released, Delivery.RELEASED) == (Delivery.RELEASED, None)
    modified.local.failed = True
    assert inbox.confirmed(modified, Delivery.MODIFIED)[0] == Delivery.MODIFIED
    assert inbox.confirmed(rejected, Delivery.REJECTED) == (Delivery.REJECTED, None)

    # Someone else was quicker: the outcome cannot be what was asked for, and says why.
    completed = {"disposition-status": "completed", **lock_tokens(message)}
    s.management(connection).ask("com.microsoft:update-disposition", completed)
    outcome, condition = inbox.confirmed(late, Delivery.ACCEPTED)
    assert outcome == Delivery.REJECTED
    assert condition.name == "com.microsoft:message-lock-lost"

    assert bodies(inbox.receive(2)) == ["released", "modified"]
    assert inbox.is_empty()


def test_generic_a_pre_settled_send(s):
    connection = s.connect()
    sender = s.sender(connection, snd_settle_mode=Link.SND_SETTLED)
    assert sender.link.remote_snd_settle_mode == Link.SND_SETTLED
    for n in range(10):
        sender.send(Message(n))
    assert bodies(s.inbox(connection).receive(10)) == list(range(10))

    # What is refused has no outcome either: the link ends.
    def send_what_is_refused():
        sender.send(Message("x", group_id="g" * 129))
        connection.wait(lambda: False, msg="the end of the link")

    refused(LinkDetached, "com.microsoft:argument-error", send_what_is_refused)


def test_generic_a_drain_is_answered(s):
    connection = s.connect()
    inbox = s.inbox(connection)
    inbox.drain(50)
    assert inbox.link.credit == 0
    inbox.drain()
    assert not inbox.waiting

    s.put(connection, 1, 2, 3, 4, 5)
    inbox.drain(3)
    assert bodies(inbox.waiting) == [1, 2, 3]
    assert inbox.link.credit == 0
    inbox.drain(100)
    assert bodies(inbox.waiting) == [1, 2, 3, 4, 5]
    assert inbox.link.credit == 0

    # The link goes on after a drain.
    s.put(connection, 6)
    inbox.link.flow(1)
    inbox.arrived(6)


def test_generic_credit_is_kept_to(s):
    connection = s.connect()
    s.put(connection, *range(10))
    inbox = s.inbox(connection)
    let_time_pass(connection, 0.3)
    assert not inbox.waiting
    inbox.link.flow(3)
    inbox.arrived(3)
    let_time_pass(connection, 0.3)
    assert bodies(inbox.waiting) == [0, 1, 2]
    # Settling is no credit.
    for _, delivery in inbox.waiting:
        settle(delivery)
    let_time_pass(connection, 0.3)
    assert len(inbox.waiting) == 3
    inbox.link.flow(1)
    inbox.link.flow(1)
    inbox.arrived(5)
    let_time_pass(connection, 0.3)
    assert bodies(inbox.waiting) == [0, 1, 2, 3, 4]
    assert inbox.link.credit == 0


def test_generic_a_plain_receiver_shares_with_another(s):
    connections = [s.connect(), s.connect()]
    inboxes = [s.inbox(connection) for connection in connections]
    for inbox in inboxes:
        inbox.link.flow(50)
        # The credit has to leave; each connection works only while it is waited for.
        let_time_pass(inbox.connection, 0.1)
    s.put(s.connect(), *range(40))

    def all_are_there():
        for connection in connections:
            let_time_pass(connection, 0.05)
        return sum(len(inbox.waiting) for inbox in inboxes) >= 40

    wait_until(all_are_there, "the arrival of all")
    one, other = [bodies(inbox.waiting) for inbox in inboxes]
    assert one and other
    assert sorted(one + other) == list(range(40))
    assert one == sorted(one) and other == sorted(other)

    # What one without credit returns, the other gets.
    inboxes[0].drain()
    for _, delivery in inboxes[0].waiting:
        settle(delivery, Delivery.RELEASED)
    inboxes[0].close()
    inboxes[1].arrived(40)
    returned = list(inboxes[1].waiting)[len(other) :]
    assert sorted(bodies(returned)) == one
    assert {message.delivery_count for message, _ in returned} == {0}


def test_generic_deferring_by_disposition(s):
    connection = s.connect()
    s.put(connection, "not now")
    inbox = s.inbox(connection, rcv_settle_mode=Link.RCV_SECOND)
    message, delivery = inbox.receive_one()
    delivery.local.undeliverable = True
    outcome, condition = inbox.confirmed(delivery, Delivery.MODIFIED)
    assert (outcome, condition) == (Delivery.MODIFIED, None)
    # It does not come again; its number finds it.
    assert inbox.is_empty()
    management = s.management(connection)
    (shown,) = s.peek(management)
    assert (shown.body, shown.annotations["x-opt-message-state"]) == ("not now", 1)
    number = message.annotations["x-opt-sequence-number"]
    wanted = {"sequence-numbers": Array(UNDESCRIBED, Data.LONG, number), "receiver-settle-mode": uint(1)}
    (entry,) = management.ask("com.microsoft:receive-by-sequence-number", wanted).body["messages"]
    fetched = Message()
    fetched.decode(entry["message"])
    assert (fetched.body, fetched.delivery_count) == ("not now", 1)
    assert fetched.instructions["x-opt-lock-token"] == entry["lock-token"]
    completed = {"disposition-status": "completed", **lock_tokens(fetched)}
    management.ask("com.microsoft:update-disposition", completed)
    assert s.peek(management) == []


def test_generic_peek_by_management(s):
    connection = s.connect()
    management = s.management(connection)
    assert s.peek(management) == []
    s.put(connection, *[Message(body, properties={"body": body}) for body in ("one", "two", "three")])
    inbox = s.inbox(connection)
    _, locked = inbox.receive_one()
    shown = s.peek(management)
    assert [message.body for message in shown] == ["one", "two", "three"]
    assert [message.annotations["x-opt-sequence-number"] for message in shown] == [1, 2, 3]
    assert shown[2].properties == {"body": "three"}
    assert [message.body for message in s.peek(management, start=2, count=1)] == ["two"]
    # Peeking changed nothing: the others are there, the first one is still this receiver's.
    settle(locked)
    assert bodies(inbox.receive(2)) == ["two", "three"]
    wait_until(lambda: len(s.peek(management)) == 2, "the end of the first message")


def test_generic_a_message_lock_is_renewed_by_management(s):
    # The heartbeat is due several times while nothing else is said.
    connection = s.connect(heartbeat=1)
    management = s.management(connection)
    s.put(connection, "held long", "let go")
    inbox = s.inbox(connection)
    (held, held_delivery), (lost, _) = inbox.receive(2)
    until = held.annotations["x-opt-locked-until"]
    for _ in range(2):
        let_time_pass(connection, 3)
        (end,) = management.ask("com.microsoft:renew-lock", lock_tokens(held)).body["expirations"]
        assert end > until
        until = end
    # The other one ran out meanwhile and is back, counted.
    back, delivery = inbox.receive_one()
    assert (back.body, back.delivery_count) == ("let go", 1)
    gone = lock_tokens(lost)
    refused(
        RequestRefused, "com.microsoft:message-lock-lost", lambda: management.ask("com.microsoft:renew-lock", gone)
    )
    settle(held_delivery)
    settle(delivery)
    wait_until(lambda: not s.peek(management), "the end of both messages")


def test_generic_external_by_client_certificate(s):
    def connect(name):
        domain = s.trusting()
        domain.set_credentials(certificate_file(f"{name}.pem"), certificate_file(f"{name}-key.pem"), None)
        return s.connect("amqps", ssl_domain=domain, user=None, password=None, allowed_mechs="EXTERNAL")

    connection = connect("client")
    s.put(connection, "by certificate")
    message, delivery = s.inbox(connection).receive_one()
    assert message.body == "by certificate"
    settle(delivery)
    with pytest.raises(ConnectionException, match="[Aa]uthentication"):
        connect("stranger")
