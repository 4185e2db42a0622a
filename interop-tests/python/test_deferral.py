"""Setting messages aside and fetching them by their numbers."""

import pytest
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import MessageLockLostError, MessageNotFoundError, OperationTimeoutError

from harness import assert_nothing_arrives, bodies, body, receive, receive_one, wait_for_time_to_pass

LOCK_S = 5
DEFERRED = ServiceBusMessageState.DEFERRED


def send(client, queue, *texts, session_id=None):
    with client.get_queue_sender(queue) as sender:
        for text in texts:
            sender.send_messages(ServiceBusMessage(text, session_id=session_id))


def dead_letters_of(client, queue):
    return client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)


def defer(receiver, count) -> list:
    """Receives and defers; the sequence numbers."""
    messages = receive(receiver, count)
    for message in messages:
        receiver.defer_message(message)
    return [message.sequence_number for message in messages]


def all_of(receiver):
    return receiver.peek_messages(100, sequence_number=1)


def only(receiver, number):
    (message,) = receiver.receive_deferred_messages(number)
    return message


def test_deferred_messages_are_found_by_their_numbers_only(unretried, queue):
    send(unretried, queue, "m0", "m1", "m2", "m3", "m4")
    with unretried.get_queue_receiver(queue) as receiver:
        numbers = defer(receiver, 5)
        assert_nothing_arrives(receiver, 0.5)
        assert [(body(m), m.state, m.delivery_count) for m in all_of(receiver)] == [
            (f"m{n}", DEFERRED, 1) for n in range(5)
        ]
        asked = [numbers[3], numbers[0], numbers[4]]
        fetched = receiver.receive_deferred_messages(asked)
        assert [m.sequence_number for m in fetched] == asked
        for message in fetched:
            assert (message.state, message.delivery_count) == (DEFERRED, 1)
            assert message.lock_token and message.locked_until_utc and message.enqueued_time_utc
            receiver.complete_message(message)
        with pytest.raises(MessageNotFoundError):
            receiver.receive_deferred_messages(asked)
        assert bodies(all_of(receiver)) == ["m1", "m2"]
        assert receiver.receive_deferred_messages([]) == []


def test_fetching_by_number_is_all_or_nothing(broker, unretried, queue):
    send(unretried, queue, "deferred", "active", "also deferred")
    with unretried.get_queue_receiver(queue) as receiver, broker.client() as other:
        first, second, third = receive(receiver, 3)
        receiver.defer_message(first)
        receiver.defer_message(third)
        receiver.abandon_message(second)
        numbers = [m.sequence_number for m in (first, second, third)]
        for asked in (numbers, [numbers[0], 99], [99], [numbers[1]], [0], [-1]):
            with pytest.raises(MessageNotFoundError):
                receiver.receive_deferred_messages(asked)
        with other.get_queue_receiver(queue) as elsewhere:
            held = only(elsewhere, numbers[0])
            with pytest.raises(MessageNotFoundError):
                receiver.receive_deferred_messages([numbers[2], numbers[0]])
            elsewhere.complete_message(held)
        message = only(receiver, numbers[2])
        assert (body(message), message.delivery_count) == ("also deferred", 1)
        receiver.complete_message(message)


def test_every_settlement_of_a_deferred_message(client, queue):
    send(client, queue, "again and again", "dead", "dead without a word")
    with client.get_queue_receiver(queue) as receiver:
        first, second, third = defer(receiver, 3)
        receiver.abandon_message(only(receiver, first))
        message = only(receiver, first)
        assert (message.state, message.delivery_count) == (DEFERRED, 2)
        receiver.defer_message(message)
        message = only(receiver, first)
        assert (message.state, message.delivery_count) == (DEFERRED, 3)
        receiver.complete_message(message)
        receiver.dead_letter_message(only(receiver, second), reason="why", error_description="what happened")
        receiver.dead_letter_message(only(receiver, third))
        assert all_of(receiver) == []
    with dead_letters_of(client, queue) as dead_letters:
        dead, silent = receive(dead_letters, 2)
        assert (body(dead), dead.sequence_number, dead.delivery_count) == ("dead", second, 1)
        assert (dead.dead_letter_reason, dead.dead_letter_error_description) == ("why", "what happened")
        assert dead.state == ServiceBusMessageState.ACTIVE
        # The client sends empty texts over $management for what was not given.
        assert (silent.dead_letter_reason or "", silent.dead_letter_error_description or "") == ("", "")


def test_deferring_never_dead_letters(client, queue):
    send(client, queue, "m1")
    with client.get_queue_receiver(queue) as receiver:
        (number,) = defer(receiver, 1)
        for count in range(1, 4):
            message = only(receiver, number)
            assert message.delivery_count == count
            receiver.defer_message(message)
        assert [m.state for m in all_of(receiver)] == [DEFERRED]
    with dead_letters_of(client, queue) as dead_letters:
        assert all_of(dead_letters) == []


def test_the_lock_of_a_deferred_message_is_renewed_and_runs_out(broker, unretried, queue):
    send(unretried, queue, "kept", "lost")
    with unretried.get_queue_receiver(queue) as receiver:
        kept, lost = receiver.receive_deferred_messages(defer(receiver, 2))
        for _ in range(2):
            wait_for_time_to_pass(3)
            before = kept.locked_until_utc
            assert receiver.renew_message_lock(kept) > before
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(lost)
        with pytest.raises(MessageNotFoundError):
            receiver.receive_deferred_messages(kept.sequence_number)
        again = only(receiver, lost.sequence_number)
        assert (again.state, again.delivery_count) == (DEFERRED, 2)
        receiver.complete_message(again)
        receiver.complete_message(kept)
        assert all_of(receiver) == []


def test_a_deferred_message_is_received_and_deleted(unretried, queue):
    send(unretried, queue, "m1", "m2")
    with unretried.get_queue_receiver(queue) as receiver:
        numbers = defer(receiver, 2)
    with unretried.get_queue_receiver(queue, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE) as receiver:
        (message,) = receiver.receive_deferred_messages([numbers[1]])
        assert body(message) == "m2"
        with pytest.raises(MessageNotFoundError):
            receiver.receive_deferred_messages([numbers[1]])
        assert bodies(all_of(receiver)) == ["m1"]


def test_deferral_in_a_dead_letter_queue(unretried, queue):
    send(unretried, queue, "m1")
    with unretried.get_queue_receiver(queue) as receiver:
        receiver.dead_letter_message(receive_one(receiver), reason="first")
        with dead_letters_of(unretried, queue) as dead_letters:
            (number,) = defer(dead_letters, 1)
            assert_nothing_arrives(dead_letters, 0.5)
            with pytest.raises(MessageNotFoundError):
                receiver.receive_deferred_messages(number)
            message = only(dead_letters, number)
            assert (body(message), message.state, message.delivery_count) == ("m1", DEFERRED, 0)
            assert message.dead_letter_reason == "first"
            dead_letters.abandon_message(message)
            dead_letters.complete_message(only(dead_letters, number))
            assert all_of(dead_letters) == []


def test_deferral_in_a_message_session(broker, unretried, queue):
    send(unretried, queue, "a1", "a2", "a3", session_id="a")
    send(unretried, queue, "b1", session_id="b")
    with unretried.get_queue_receiver(queue, session_id="a") as receiver:
        first, second = receive(receiver, 2)
        receiver.defer_message(first)
        receiver.complete_message(second)
        assert body(receive_one(receiver)) == "a3"
        message = only(receiver, first.sequence_number)
        assert (body(message), message.session_id, message.delivery_count) == ("a1", "a", 1)
        receiver.abandon_message(message)
    with unretried.get_queue_receiver(queue, session_id="b") as receiver:
        with pytest.raises(MessageNotFoundError):  # it belongs to another message session
            receiver.receive_deferred_messages(first.sequence_number)
        receiver.complete_message(receive_one(receiver))
    with broker.client() as other, other.get_queue_receiver(queue, session_id="a") as receiver:
        assert [(body(m), m.state) for m in receiver.peek_messages(10)] == [
            ("a1", DEFERRED),
            ("a3", ServiceBusMessageState.ACTIVE),
        ]
        message = only(receiver, first.sequence_number)
        assert message.delivery_count == 2
        receiver.dead_letter_message(message, reason="late")
        receiver.complete_message(receive_one(receiver))
    with dead_letters_of(unretried, queue) as dead_letters:
        message = receive_one(dead_letters)
        assert (body(message), message.session_id, message.dead_letter_reason) == ("a1", "a", "late")
        (number,) = [message.sequence_number]
        dead_letters.defer_message(message)
        dead_letters.complete_message(only(dead_letters, number))


def test_a_fetched_message_returns_to_deferred_with_its_message_session(client, queue):
    send(client, queue, "m1", session_id="s")
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        (number,) = defer(receiver, 1)
        only(receiver, number)
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        assert_nothing_arrives(receiver, 0.5)
        message = only(receiver, number)
        assert (message.state, message.delivery_count) == (DEFERRED, 1)
        receiver.complete_message(message)


def test_a_message_session_with_deferred_messages_only_is_not_next(broker, client, queue):
    send(client, queue, "m1", session_id="s")
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        defer(receiver, 1)
    with broker.client(retry_total=0) as impatient, pytest.raises(OperationTimeoutError):
        with impatient.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1):
            pass


def test_deferred_messages_survive_a_restart(own_broker, queue):
    broker = own_broker()
    with broker.client() as client:
        send(client, queue, "m1", "m2")
        with client.get_queue_receiver(queue) as receiver:
            numbers = defer(receiver, 2)
            receiver.abandon_message(only(receiver, numbers[0]))
            only(receiver, numbers[1])  # locked when the broker dies
            broker.restart()
    with broker.client() as client, client.get_queue_receiver(queue) as receiver:
        assert_nothing_arrives(receiver, 0.5)
        assert [(body(m), m.state) for m in all_of(receiver)] == [("m1", DEFERRED), ("m2", DEFERRED)]
        message = only(receiver, numbers[0])
        assert (body(message), message.delivery_count) == ("m1", 2)
        receiver.complete_message(message)
