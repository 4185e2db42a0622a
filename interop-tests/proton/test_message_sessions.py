import threading

import pytest
from proton import Delivery, Described, Message, symbol, uint, ulong
from proton.reactor import Filter, Selector
from proton.utils import LinkDetached, SendException

from harness import Inbox, bodies, flush, let_time_pass, refused, settle, wait_until
from snippets import FILTER, RequestRefused, accept_by_id, accept_next, get_state, granted_id, send, set_state

FILTER_CODE = ulong(0x0000_0013_7000_000C)
HELD = "com.microsoft:session-cannot-be-locked"
LOST = "com.microsoft:session-lock-lost"


def accept_by_filter(s, asked):
    """The message session `mine` by a filter of this form; the answer has the form of the question."""
    connection = s.connect()
    send(connection, s.queue, "mine", "for me")
    send(connection, s.queue, "theirs", "not for me")
    inbox = s.inbox(connection, options=[Filter({FILTER: asked})])
    answer = inbox.link.remote_source.filter
    answer.rewind()
    answer.next()
    granted = answer.get_dict()[FILTER]
    assert type(granted) is type(asked) or asked == symbol("mine")
    if isinstance(asked, Described):
        assert granted.descriptor == asked.descriptor
    assert granted_id(inbox.receiver) == "mine"
    message, delivery = inbox.receive_one()
    assert (message.body, message.group_id) == ("for me", "mine")
    assert inbox.is_empty()
    settle(delivery)
    inbox.close()


def test_generic_session_by_a_bare_string(s):
    accept_by_filter(s, "mine")


def test_generic_session_by_a_described_filter_with_symbol(s):
    accept_by_filter(s, Described(FILTER, "mine"))


def test_generic_session_by_a_described_filter_with_ulong(s):
    accept_by_filter(s, Described(FILTER_CODE, "mine"))


def test_generic_session_by_a_symbol_typed_id(s):
    accept_by_filter(s, symbol("mine"))


def test_generic_session_next_by_null(s):
    accepted = {}

    def accept():
        connection = s.connect()
        receiver, accepted["id"] = accept_next(connection, s.queue)
        accepted["message"], delivery = Inbox(receiver).receive_one()
        settle(delivery)
        # The message session is held until the link closes.
        second.wait(timeout=15)
        receiver.close()

    second = threading.Event()
    waiting = threading.Thread(target=accept, daemon=True)
    waiting.start()
    connection = s.connect()
    send(connection, s.queue, "first", "one")
    wait_until(lambda: "message" in accepted, "the first accept")
    assert (accepted["id"], accepted["message"].body) == ("first", "one")
    send(connection, s.queue, "second", "two")
    receiver, id = accept_next(connection, s.queue)
    assert id == "second"
    message, delivery = Inbox(receiver).receive_one()
    assert message.body == "two"
    settle(delivery)
    second.set()
    waiting.join(timeout=15)
    assert not waiting.is_alive()

    # None is left: the wait ends after the time asked for, and the connection goes on.
    wait = {symbol("com.microsoft:timeout"): uint(500)}
    nothing = Filter({FILTER: None})
    refused(LinkDetached, "com.microsoft:timeout", lambda: s.inbox(connection, options=[nothing], properties=wait))
    send(connection, s.queue, "third", "three")
    assert accept_next(connection, s.queue)[1] == "third"


def test_generic_session_held_elsewhere_is_refused(s):
    one, other = s.connect(), s.connect()
    holder = accept_by_id(one, s.queue, "held")
    refused(LinkDetached, HELD, lambda: accept_by_id(other, s.queue, "held"))
    refused(LinkDetached, HELD, lambda: accept_by_id(one, s.queue, "held"))
    accept_by_id(other, s.queue, "free")
    refused(LinkDetached, "amqp:not-allowed", lambda: s.inbox(other))
    # A close of the link frees it at once; so does the close of a connection.
    holder.close()
    accept_by_id(other, s.queue, "held")
    other.close()
    accept_by_id(one, s.queue, "held")


def test_generic_session_messages_come_in_order(s):
    connection = s.connect()
    numbers = list(range(30))
    for n in numbers:
        send(connection, s.queue, "odd" if n % 2 else "even", n)
    odd = Inbox(accept_by_id(connection, s.queue, "odd"))
    even = Inbox(accept_by_id(connection, s.queue, "even"))
    first = odd.receive(3)
    assert bodies(first) == [1, 3, 5]
    # What is returned comes before everything later.
    first[1][1].local.failed = True
    settle(first[1][1], Delivery.MODIFIED)
    flush(connection)
    again = odd.receive_one()
    assert (again[0].body, again[0].delivery_count) == (3, 1)
    for _, delivery in (first[0], again, first[2]):
        settle(delivery)
    rest = odd.receive(12)
    assert bodies(rest) == numbers[7::2]
    assert {message.group_id for message, _ in rest} == {"odd"}
    assert bodies(even.receive(15)) == numbers[0::2]
    assert odd.is_empty()
    assert even.is_empty()

    sender = s.sender(connection)
    with pytest.raises(SendException):
        sender.send(Message("no group-id"))
    delivery = sender.send(Message("with one", group_id="odd"))
    assert delivery.remote_state == Delivery.ACCEPTED


def test_generic_session_lock_is_renewed_by_management(s):
    # The heartbeat is due several times while nothing else is said.
    connection, other = s.connect(heartbeat=1), s.connect()
    management, theirs = s.management(connection), s.management(other)
    send(connection, s.queue, "renewed", "held long")
    send(connection, s.queue, "let go", "back soon")
    inbox = Inbox(accept_by_id(connection, s.queue, "renewed"))
    lost = Inbox(accept_by_id(other, s.queue, "let go"))
    message, delivery = inbox.receive_one()
    lost.receive_one()
    until = message.annotations["x-opt-locked-until"]
    for _ in range(2):
        let_time_pass(connection, 3)
        end = management.renew("renewed")
        assert end > until
        until = end
    settle(delivery)
    wait_until(lambda: len(s.peek(management)) == 1, "the end of the message")

    # The other one ran out: its link has ended, nobody renews it, and its message is counted.
    refused(LinkDetached, LOST, lambda: let_time_pass(other, 5))
    refused(RequestRefused, LOST, lambda: theirs.renew("let go"))
    again, delivery = Inbox(accept_by_id(other, s.queue, "let go")).receive_one()
    assert again.delivery_count == 1
    settle(delivery)

    # Only the connection that holds it renews it.
    refused(RequestRefused, LOST, lambda: theirs.renew("renewed"))


def test_generic_session_state_by_management(s):
    connection = s.connect()
    management = s.management(connection)
    receiver = accept_by_id(connection, s.queue, "stateful")
    assert get_state(management, "stateful") is None
    set_state(management, "stateful", b"\0\1\xff")
    assert get_state(management, "stateful") == b"\0\1\xff"
    set_state(management, "stateful", b"")
    assert get_state(management, "stateful") is None
    set_state(management, "stateful", b"kept")
    receiver.close()
    refused(RequestRefused, LOST, lambda: get_state(management, "stateful"))

    other = s.connect()
    theirs = s.management(other)
    accept_by_id(other, s.queue, "stateful")
    assert get_state(theirs, "stateful") == b"kept"
    refused(RequestRefused, LOST, lambda: set_state(management, "stateful", None))
    set_state(theirs, "stateful", None)
    assert get_state(theirs, "stateful") is None


def selector_of(inbox):
    answer = inbox.link.remote_source.filter
    answer.rewind()
    answer.next()
    return answer.get_dict()[symbol("selector")].value


def test_generic_session_by_jms_selector(s):
    connection = s.connect()
    send(connection, s.queue, "it's mine", "for me")
    send(connection, s.queue, "theirs", "not for me")
    inbox = s.inbox(connection, options=[Selector("JMSXGroupID = 'it''s mine'")])
    assert selector_of(inbox) == "JMSXGroupID = 'it''s mine'"
    refused(LinkDetached, HELD, lambda: accept_by_id(connection, s.queue, "it's mine"))
    message, delivery = inbox.receive_one()
    assert message.body == "for me"
    assert inbox.is_empty()
    settle(delivery)
    inbox.close()
    red = Selector("colour = 'red'")
    refused(LinkDetached, "amqp:not-implemented", lambda: s.inbox(connection, options=[red]))


def test_generic_session_next_by_jms_selector(s):
    connection = s.connect()
    send(connection, s.queue, "first", "one")
    inbox = s.inbox(connection, options=[Selector("JMSXGroupID IS NOT NULL")])
    # The answer says which one it is.
    assert selector_of(inbox) == "JMSXGroupID = 'first'"
    message, delivery = inbox.receive_one()
    assert (message.body, message.group_id) == ("one", "first")
    settle(delivery)
    inbox.close()


def test_generic_session_auto_renewed_while_the_link_is_open(s):
    connection, other = s.connect(), s.connect()
    send(connection, s.queue, "held", "one")
    inbox = Inbox(accept_by_id(connection, s.queue, "held"))
    _, delivery = inbox.receive_one()
    # More than the five seconds of a lock.
    let_time_pass(connection, 7)
    refused(LinkDetached, HELD, lambda: accept_by_id(other, s.queue, "held"))
    settle(delivery)
    send(connection, s.queue, "held", "two")
    message, _ = inbox.receive_one()
    assert (message.body, message.delivery_count) == ("two", 0)
    inbox.close()
    message, delivery = Inbox(accept_by_id(other, s.queue, "held")).receive_one()
    assert message.body == "two"
    settle(delivery)
