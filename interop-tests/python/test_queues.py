"""Sending, receiving and settling on queues without message sessions."""

import time

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusError,
)

from harness import (
    assert_nothing_arrives,
    bodies,
    body,
    in_threads,
    receive,
    receive_one,
    wait_for_time_to_pass,
)

LOCK_S = 5


def send(client, queue, *texts):
    with client.get_queue_sender(queue) as sender:
        for text in texts:
            sender.send_messages(ServiceBusMessage(text))


def dead_letters_of(client, queue):
    return client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)


def test_send_receive_complete(client, queue):
    send(client, queue, "m1", "m2")
    with client.get_queue_receiver(queue) as receiver:
        for text in ("m1", "m2"):
            message = receive_one(receiver)
            assert (body(message), message.delivery_count) == (text, 0)
            assert message.lock_token and message.locked_until_utc and message.enqueued_time_utc
            receiver.complete_message(message)
        assert receiver.peek_messages(10) == []
        assert_nothing_arrives(receiver, 0.5)


def test_several_receivers_get_each_message_once(broker, client, queue):
    send(client, queue, *[f"m{n}" for n in range(30)])

    def drain():
        texts = []
        with broker.client() as one, one.get_queue_receiver(queue) as receiver:
            while True:
                messages = receiver.receive_messages(max_message_count=2, max_wait_time=2)
                if not messages:
                    return texts
                for message in messages:
                    receiver.complete_message(message)
                texts += bodies(messages)

    results = in_threads([drain] * 3)
    assert sorted(sum(results, [])) == sorted(f"m{n}" for n in range(30))


def test_a_batch_arrives_in_order(client, queue):
    with client.get_queue_sender(queue) as sender:
        batch = sender.create_message_batch()
        for n in range(500):
            batch.add_message(ServiceBusMessage(str(n)))
        sender.send_messages(batch)
    with client.get_queue_receiver(queue) as receiver:
        messages = receive(receiver, 500)
        assert bodies(messages) == [str(n) for n in range(500)]
        first = messages[0].sequence_number
        assert [message.sequence_number for message in messages] == list(range(first, first + 500))


def test_a_list_of_messages_is_one_batch(client, queue):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(n), message_id=f"id-{n}") for n in range(3)])
    with client.get_queue_receiver(queue) as receiver:
        messages = receive(receiver, 3)
        assert [(body(m), m.message_id) for m in messages] == [(str(n), f"id-{n}") for n in range(3)]


def test_the_sender_knows_the_size_limit(client, queue):
    with client.get_queue_sender(queue) as sender:
        batch = sender.create_message_batch()
        assert batch.max_size_in_bytes == 262144
        batch.add_message(ServiceBusMessage("x" * 130_000))
        with pytest.raises(MessageSizeExceededError):
            batch.add_message(ServiceBusMessage("x" * 135_000))
        sender.send_messages(batch)


def test_a_batch_over_the_limit_is_refused(client, queue):
    with client.get_queue_sender(queue) as sender:
        with pytest.raises(MessageSizeExceededError):
            sender.send_messages([ServiceBusMessage("x" * 131_072), ServiceBusMessage("y" * 131_072)])
        sender.send_messages(ServiceBusMessage("small"))
    with client.get_queue_receiver(queue) as receiver:
        assert bodies(receiver.peek_messages(10)) == ["small"]


def test_a_large_body_passes_and_one_over_the_limit_is_refused(client, queue):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage(b"a" * (250 * 1024)))
        with pytest.raises(MessageSizeExceededError):
            sender.send_messages(ServiceBusMessage(b"b" * (256 * 1024)))
        sender.send_messages(ServiceBusMessage("after"))
    with client.get_queue_receiver(queue) as receiver:
        large, after = receive(receiver, 2)
        assert b"".join(large.body) == b"a" * (250 * 1024)
        assert body(after) == "after"


def test_sequence_numbers_start_at_one_without_gaps(client, queue):
    send(client, queue, "m1", "m2")
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage("m3"), ServiceBusMessage("m4")])
    with client.get_queue_receiver(queue) as receiver:
        assert [message.sequence_number for message in receive(receiver, 4)] == [1, 2, 3, 4]


def test_peek_shows_messages_without_locking_them(client, queue):
    send(client, queue, *[f"m{n}" for n in range(1, 6)])
    with client.get_queue_receiver(queue) as receiver:
        assert bodies(receiver.peek_messages(2)) == ["m1", "m2"]
        assert bodies(receiver.peek_messages(10, sequence_number=3)) == ["m3", "m4", "m5"]
        assert receiver.peek_messages(10, sequence_number=6) == []
        locked = receive(receiver, 5)
        assert [(body(m), m.delivery_count) for m in locked] == [(f"m{n}", 0) for n in range(1, 6)]
        again = receiver.peek_messages(10, sequence_number=1)
        assert [(body(m), m.delivery_count) for m in again] == [(f"m{n}", 0) for n in range(1, 6)]
        with pytest.raises(ValueError):
            receiver.complete_message(again[0])


def test_a_receive_call_returns_what_is_there(client, queue):
    send(client, queue, "m1", "m2", "m3")
    with client.get_queue_receiver(queue) as receiver:
        started = time.monotonic()
        messages = receiver.receive_messages(max_message_count=1000, max_wait_time=30)
        assert bodies(messages) == ["m1", "m2", "m3"]
        assert time.monotonic() - started < 10
        for message in messages:
            receiver.complete_message(message)
        send(client, queue, "m4")
        assert body(receive_one(receiver)) == "m4"


def test_abandon_raises_the_count(client, queue):
    send(client, queue, "m1")
    with client.get_queue_receiver(queue) as receiver:
        for count in range(3):
            message = receive_one(receiver)
            assert message.delivery_count == count
            receiver.abandon_message(message)
        receiver.complete_message(receive_one(receiver))


def test_third_failure_dead_letters(client, queue):
    send(client, queue, "poison")
    with client.get_queue_receiver(queue) as receiver:
        for count in range(3):
            message = receive_one(receiver)
            assert message.delivery_count == count
            receiver.abandon_message(message)
        assert receiver.peek_messages(10, sequence_number=1) == []
    with dead_letters_of(client, queue) as dead_letters:
        message = receive_one(dead_letters)
        assert (body(message), message.delivery_count) == ("poison", 3)
        assert message.dead_letter_reason == "MaxDeliveryCountExceeded"
        dead_letters.complete_message(message)


def test_dead_letter_keeps_reason_and_description(client, queue):
    send(client, queue, "m1", "m2")
    with client.get_queue_receiver(queue) as receiver:
        receiver.dead_letter_message(receive_one(receiver), reason="why", error_description="what happened")
        receiver.dead_letter_message(receive_one(receiver))
    with dead_letters_of(client, queue) as dead_letters:
        with_reason, without = receive(dead_letters, 2)
        assert (with_reason.dead_letter_reason, with_reason.dead_letter_error_description) == ("why", "what happened")
        assert (without.dead_letter_reason, without.dead_letter_error_description) == (None, None)
        assert (with_reason.sequence_number, with_reason.delivery_count) == (1, 0)
        for message in (with_reason, without):
            dead_letters.complete_message(message)


def test_dead_letter_queue_has_no_dead_letter_queue(client, queue):
    send(client, queue, "m1")
    with client.get_queue_receiver(queue) as receiver:
        receiver.dead_letter_message(receive_one(receiver), reason="first")
    with dead_letters_of(client, queue) as dead_letters:
        for _ in range(12):
            message = receive_one(dead_letters)
            assert message.delivery_count == 0
            dead_letters.abandon_message(message)
        message = receive_one(dead_letters)
        with pytest.raises(ServiceBusError):
            dead_letters.dead_letter_message(message, reason="second")
    with dead_letters_of(client, queue) as dead_letters:
        assert [m.dead_letter_reason for m in dead_letters.peek_messages(10)] == ["first"]


def test_sending_to_a_dead_letter_queue_is_refused(broker, queue):
    with broker.client(retry_total=0) as client, pytest.raises(ServiceBusError):
        send(client, f"{queue}/$DeadLetterQueue", "m1")


def test_receive_and_delete(client, queue):
    send(client, queue, *[f"m{n}" for n in range(4)])
    with client.get_queue_receiver(queue, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE) as receiver:
        assert bodies(receive(receiver, 2)) == ["m0", "m1"]
        assert bodies(receiver.peek_messages(10, sequence_number=1)) == ["m2", "m3"]


def test_unsettled_prefetched_messages_come_back_uncounted(client, queue):
    send(client, queue, *[f"m{n}" for n in range(20)])
    for _ in range(2):
        with client.get_queue_receiver(queue, prefetch_count=50) as receiver:
            message = receive_one(receiver)
            assert message.delivery_count == 0
            receiver.abandon_message(message)
        with client.get_queue_receiver(queue) as receiver:
            messages = receive(receiver, 20)
            assert [m.delivery_count for m in messages if body(m) != "m0"] == [0] * 19
            for message in messages:
                receiver.complete_message(message)
        send(client, queue, *[f"m{n}" for n in range(20)])


def test_settling_after_the_receiver_was_closed(broker, client, queue):
    send(client, queue, "complete", "abandon", "dead-letter")
    with client.get_queue_receiver(queue) as receiver:
        first, second, third = receive(receiver, 3)
    with broker.client() as other, other.get_queue_receiver(queue) as receiver:
        receiver.complete_message(first)
        receiver.abandon_message(second)
        receiver.dead_letter_message(third, reason="by token", error_description="elsewhere")
        message = receive_one(receiver)
        assert (body(message), message.delivery_count) == ("abandon", 1)
        receiver.complete_message(message)
        assert receiver.peek_messages(10, sequence_number=1) == []
    with dead_letters_of(client, queue) as dead_letters:
        message = receive_one(dead_letters)
        assert (message.dead_letter_reason, message.dead_letter_error_description) == ("by token", "elsewhere")


def test_a_message_lock_is_renewed(client, queue):
    send(client, queue, "m1")
    with client.get_queue_receiver(queue) as receiver:
        message = receive_one(receiver)
        for _ in range(3):
            wait_for_time_to_pass(2.5)
            before = message.locked_until_utc
            assert receiver.renew_message_lock(message) > before
        receiver.complete_message(message)
        assert receiver.peek_messages(10, sequence_number=1) == []


def test_an_expired_message_lock_counts_and_redelivers(broker, client, queue):
    send(client, queue, "m1")
    with client.get_queue_receiver(queue) as receiver, broker.client() as other:
        message = receive_one(receiver)
        with other.get_queue_receiver(queue) as waiting:
            again = receive_one(waiting, LOCK_S + 5)
            assert (body(again), again.delivery_count) == ("m1", 1)
            with pytest.raises(MessageLockLostError):
                receiver.complete_message(message)
            with pytest.raises(MessageLockLostError):
                receiver.renew_message_lock(message)
            waiting.complete_message(again)


def test_an_unknown_queue_is_not_found_quickly(broker):
    # This SDK reports the 404 of its put-token request as a failed authentication.
    not_found = (MessagingEntityNotFoundError, ServiceBusAuthenticationError)
    with broker.client(retry_total=0) as client:
        started = time.monotonic()
        with pytest.raises(not_found):
            send(client, "no-such-queue", "m1")
        for session_id in (None, "s", NEXT_AVAILABLE_SESSION):
            with pytest.raises(not_found):
                with client.get_queue_receiver("no-such-queue", session_id=session_id, max_wait_time=60):
                    pass
        assert time.monotonic() - started < 15


def test_a_session_id_on_a_plain_queue_is_carried(client, queue):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("m1", session_id="carried"))
    with client.get_queue_receiver(queue) as receiver:
        assert receive_one(receiver).session_id == "carried"
