"""Messages that come at a time set by their sender."""

import datetime
import uuid

import pytest
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusMessage,
    ServiceBusMessageState,
)
from azure.servicebus.exceptions import MessageNotFoundError, MessageSizeExceededError, OperationTimeoutError

from harness import assert_nothing_arrives, bodies, body, in_threads, receive, receive_one, wait_for_time_to_pass, wait_until

SCHEDULED = ServiceBusMessageState.SCHEDULED


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def due_in(seconds):
    """A whole second, at least that far away."""
    return (now() + datetime.timedelta(seconds=seconds + 1)).replace(microsecond=0)


LATER = datetime.timedelta(hours=1)


def all_of(receiver):
    return receiver.peek_messages(100, sequence_number=1)


def test_a_scheduled_message_comes_when_it_is_due(unretried, queue):
    identity = uuid.uuid4()
    with unretried.get_queue_sender(queue) as sender, unretried.get_queue_receiver(queue) as receiver:
        due = due_in(4)
        message = ServiceBusMessage("m1", message_id=identity, application_properties={"key": "value"})
        (number,) = sender.schedule_messages(message, due)
        (peeked,) = all_of(receiver)
        assert (body(peeked), peeked.state, peeked.sequence_number) == ("m1", SCHEDULED, number)
        assert peeked.scheduled_enqueue_time_utc == due
        assert_nothing_arrives(receiver, 0.5)
        message = receive_one(receiver)
        assert now() >= due
        assert (body(message), message.delivery_count) == ("m1", 0)
        assert message.enqueued_time_utc.replace(microsecond=0) == due
        assert message.scheduled_enqueue_time_utc == due
        assert message.message_id == identity
        assert message.application_properties == {b"key": b"value"}
        assert message.state == SCHEDULED
        assert message.sequence_number > number
        with pytest.raises(MessageNotFoundError):
            sender.cancel_scheduled_messages(number)
        receiver.complete_message(message)
        assert all_of(receiver) == []


def test_every_scheduled_message_has_a_number(broker, client, queue):
    due = now() + LATER
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        numbers = sender.schedule_messages([ServiceBusMessage(str(n)) for n in range(5)], due)
        assert list(numbers) == list(range(numbers[0], numbers[0] + 5))
        assert [m.sequence_number for m in all_of(receiver)] == list(numbers)

        def schedule_elsewhere():
            with broker.client() as other, other.get_queue_sender(queue) as sender:
                return list(sender.schedule_messages([ServiceBusMessage("x"), ServiceBusMessage("y")], due))

        elsewhere = in_threads([schedule_elsewhere] * 3)
        assert len(set(sum(elsewhere, list(numbers)))) == 11
        assert sender.schedule_messages([], due) == []
        sender.cancel_scheduled_messages([])
        sender.send_messages(ServiceBusMessage("now"))
        assert receive_one(receiver).sequence_number == numbers[0] + 11


def test_scheduling_by_annotation(client, queue):
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        due = due_in(4)
        sender.send_messages(ServiceBusMessage("single", scheduled_enqueue_time_utc=due))
        sender.send_messages(
            [ServiceBusMessage("at once"), ServiceBusMessage("of a batch", scheduled_enqueue_time_utc=due)]
        )
        assert body(receive_one(receiver)) == "at once"
        first, second = receive(receiver, 2)
        assert bodies([first, second]) == ["single", "of a batch"]
        for message in (first, second):
            assert message.scheduled_enqueue_time_utc == due <= message.enqueued_time_utc


def test_cancelled_messages_never_come(unretried, queue):
    with unretried.get_queue_sender(queue) as sender, unretried.get_queue_receiver(queue) as receiver:
        due = due_in(6)
        one, two, three = sender.schedule_messages([ServiceBusMessage(str(n)) for n in (1, 2, 3)], due)
        sender.send_messages(ServiceBusMessage("active"))
        active = receive_one(receiver)
        for unknown in ([one, 99], [active.sequence_number], [two, two + 50, three]):
            with pytest.raises(MessageNotFoundError):
                sender.cancel_scheduled_messages(unknown)
        receiver.complete_message(active)
        sender.cancel_scheduled_messages([three, one])
        assert [m.sequence_number for m in all_of(receiver)] == [two]
        with pytest.raises(MessageNotFoundError):
            sender.cancel_scheduled_messages(one)
        assert body(receive_one(receiver)) == "2"
        assert_nothing_arrives(receiver, 1)


def test_scheduled_messages_come_in_order_of_their_time(client, queue):
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        start = due_in(3)
        for text, seconds in (("third", 2), ("first", 0), ("second", 1)):
            sender.schedule_messages(ServiceBusMessage(text), start + datetime.timedelta(seconds=seconds))
        sender.schedule_messages(
            [ServiceBusMessage("fourth"), ServiceBusMessage("fifth")], start + datetime.timedelta(seconds=3)
        )
        messages = receive(receiver, 5)
        assert bodies(messages) == ["first", "second", "third", "fourth", "fifth"]
        numbers = [m.sequence_number for m in messages]
        assert numbers == sorted(numbers)


def test_a_time_that_has_come_means_now(client, queue):
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        (number,) = sender.schedule_messages(ServiceBusMessage("operation"), now() - LATER)
        assert number > 0
        sender.send_messages(ServiceBusMessage("annotation", scheduled_enqueue_time_utc=now()))
        assert bodies(receive(receiver, 2)) == ["operation", "annotation"]


def test_scheduled_messages_survive_a_restart(own_broker, queue):
    broker = own_broker()
    due = due_in(1)
    with broker.client() as client, client.get_queue_sender(queue) as sender:
        soon = sender.schedule_messages(ServiceBusMessage("soon"), due)
        later = sender.schedule_messages([ServiceBusMessage("later"), ServiceBusMessage("latest")], now() + LATER)
    broker.kill()
    wait_until(lambda: now() > due, what="the due time")
    broker.start()
    with broker.client(retry_total=0) as client, client.get_queue_sender(queue) as sender:
        with client.get_queue_receiver(queue) as receiver:
            message = receive_one(receiver)
            assert (body(message), message.scheduled_enqueue_time_utc) == ("soon", due)
            assert message.enqueued_time_utc >= due
            receiver.complete_message(message)
            assert [(m.sequence_number, m.state) for m in all_of(receiver)] == [(n, SCHEDULED) for n in later]
            with pytest.raises(MessageNotFoundError):
                sender.cancel_scheduled_messages(soon)
            sender.cancel_scheduled_messages(later)
            assert all_of(receiver) == []


def test_a_message_session_is_eligible_when_its_message_is_due(broker, client, queue):
    due = due_in(7)
    with client.get_queue_sender(queue) as sender:
        sender.schedule_messages(
            [ServiceBusMessage("h1", session_id="held"), ServiceBusMessage("f1", session_id="free")], due
        )
        sender.send_messages(ServiceBusMessage("h2", session_id="held", scheduled_enqueue_time_utc=due))
        with client.get_queue_receiver(queue, session_id="held") as holder:
            assert [(body(m), m.state) for m in holder.peek_messages(10)] == [("h1", SCHEDULED), ("h2", SCHEDULED)]
            # No message session has anything to receive before the time.
            with broker.client(retry_total=0) as impatient, pytest.raises(OperationTimeoutError):
                with impatient.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1):
                    pass
            assert now() < due, "the machine is too slow for this scenario"
            with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=20) as receiver:
                assert now() >= due
                assert receiver.session.session_id == "free"
                assert body(receive_one(receiver)) == "f1"
            assert bodies(receive(holder, 2)) == ["h1", "h2"]


def test_an_oversize_scheduled_message_is_refused(client, queue):
    due = now() + LATER
    with client.get_queue_sender(queue) as sender:
        with pytest.raises(MessageSizeExceededError):
            sender.schedule_messages(ServiceBusMessage("x" * 300_000), due)
        with pytest.raises(MessageSizeExceededError):
            sender.schedule_messages([ServiceBusMessage("small"), ServiceBusMessage("x" * 300_000)], due)
        assert len(sender.schedule_messages(ServiceBusMessage("after"), due)) == 1
    with client.get_queue_receiver(queue) as receiver:
        assert bodies(all_of(receiver)) == ["after"]


def test_received_messages_are_scheduled_again(client, queue):
    due = due_in(1)
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage("m1", subject="kept"), ServiceBusMessage("m2", subject="kept")])
        received = receive(receiver, 2)
        for message in received:
            receiver.complete_message(message)
        assert len(sender.schedule_messages(received, due)) == 2
        again = receive(receiver, 2)
        assert [(body(m), m.subject, m.delivery_count) for m in again] == [("m1", "kept", 0), ("m2", "kept", 0)]
        assert {m.scheduled_enqueue_time_utc for m in again} == {due}
        for message in again:
            receiver.complete_message(message)
