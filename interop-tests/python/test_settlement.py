"""What becomes of deliveries: on other links, after losses, settled twice, too late."""

import asyncio
import datetime
import pickle
import socket
import time

import pytest
from azure.servicebus import (
    AutoLockRenewer,
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import AutoLockRenewer as AsyncAutoLockRenewer
from azure.servicebus.aio import ServiceBusClient as AsyncServiceBusClient
from azure.servicebus.exceptions import (
    AutoLockRenewTimeout,
    MessageAlreadySettled,
    MessageLockLostError,
    MessageNotFoundError,
    ServiceBusError,
    SessionLockLostError,
)

from harness import (
    assert_nothing_arrives,
    bodies,
    body,
    receive,
    receive_one,
    wait_for_time_to_pass,
    wait_until,
)

LOCK_S = 5


def send(client, queue, *texts, session_id=None):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(text, session_id=session_id) for text in texts])


def dead_letters_of(client, queue):
    return client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)


def all_of(receiver):
    return receiver.peek_messages(100, sequence_number=1)


def copy_of(message):
    """As after a way through another process: knows nothing of what happened to the message since."""
    return pickle.loads(pickle.dumps(message))


def break_connection(receiver):
    """What the loss of the network is to the client."""
    receiver._handler._connection._transport.sock.shutdown(socket.SHUT_RDWR)


def test_a_message_is_settled_once(broker, unretried, queue):
    send(unretried, queue, "completed", "abandoned", "dead-lettered", "deferred")
    with unretried.get_queue_receiver(queue) as receiver, broker.client(retry_total=0) as other:
        messages = receive(receiver, 4)
        copies = [copy_of(message) for message in messages]
        completed, abandoned, dead_lettered, deferred = messages
        receiver.complete_message(completed)
        receiver.abandon_message(abandoned)
        receiver.dead_letter_message(dead_lettered)
        receiver.defer_message(deferred)
        for message in messages:
            with pytest.raises(MessageAlreadySettled):
                receiver.complete_message(message)
        with other.get_queue_receiver(queue) as elsewhere:
            for message in copies:
                for settle in (
                    elsewhere.complete_message,
                    elsewhere.abandon_message,
                    elsewhere.dead_letter_message,
                    elsewhere.defer_message,
                    elsewhere.renew_message_lock,
                ):
                    with pytest.raises(MessageLockLostError):
                        settle(copy_of(message))
        assert [(body(m), m.state, m.delivery_count) for m in all_of(receiver)] == [
            ("abandoned", ServiceBusMessageState.ACTIVE, 1),
            ("deferred", ServiceBusMessageState.DEFERRED, 1),
        ]


def test_messages_are_settled_after_their_connection_broke(client, queue):
    send(client, queue, "completed", "abandoned", "dead-lettered", "deferred", "renewed")
    with client.get_queue_receiver(queue) as receiver:
        completed, abandoned, dead_lettered, deferred, renewed = receive(receiver, 5)
        break_connection(receiver)
        receiver.complete_message(completed)
        receiver.abandon_message(abandoned)
        receiver.dead_letter_message(dead_lettered, reason="after the loss")
        receiver.defer_message(deferred)
        before = renewed.locked_until_utc
        assert receiver.renew_message_lock(renewed) > before
        receiver.complete_message(renewed)
        assert [(body(m), m.delivery_count) for m in all_of(receiver)] == [("abandoned", 1), ("deferred", 1)]
        assert body(receive_one(receiver)) == "abandoned"
    with dead_letters_of(client, queue) as dead_letters:
        assert receive_one(dead_letters).dead_letter_reason == "after the loss"


def test_a_lost_connection_keeps_message_locks_until_they_run_out(broker, client, queue):
    send(client, queue, "m1")
    with client.get_queue_receiver(queue) as receiver, broker.client() as other:
        receive_one(receiver)
        break_connection(receiver)
        with other.get_queue_receiver(queue) as elsewhere:
            assert_nothing_arrives(elsewhere, LOCK_S / 2)
            message = receive_one(elsewhere, LOCK_S)
            assert message.delivery_count == 1
            elsewhere.complete_message(message)


def test_every_way_to_settle_fails_once_the_lock_is_lost(unretried, queue):
    with unretried.get_queue_receiver(queue) as receiver:
        send(unretried, queue, *[f"m{n}" for n in range(5)])
        messages = receive(receiver, 5)
        copies = [copy_of(message) for message in messages]
        wait_for_time_to_pass(LOCK_S + 0.5)
        settle = (
            receiver.complete_message,
            receiver.abandon_message,
            receiver.dead_letter_message,
            receiver.defer_message,
            receiver.renew_message_lock,
        )
        for message, of_copy, one in zip(messages, copies, settle, strict=True):
            with pytest.raises(MessageLockLostError):
                one(message)
            # The client judges by its clock; without one the broker says so.
            of_copy._expiry = messages[0].locked_until_utc.replace(year=9999)
            with pytest.raises(MessageLockLostError):
                one(of_copy)
        again = receive(receiver, 5)
        assert [(body(m), m.delivery_count) for m in again] == [(f"m{n}", 1) for n in range(5)]


def test_settling_in_a_lost_message_session_fails(broker, unretried, queue):
    send(unretried, queue, "m1", "m2", "m3", "m4", session_id="s")
    with unretried.get_queue_receiver(queue, session_id="s") as receiver:
        messages = receive(receiver, 4)
        wait_for_time_to_pass(LOCK_S + 0.5)
        with broker.client() as other, other.get_queue_receiver(queue, session_id="s") as next_holder:
            again = receive(next_holder, 4)
            assert {m.delivery_count for m in again} == {1}
            for settle, message in zip(
                (
                    receiver.complete_message,
                    receiver.abandon_message,
                    receiver.dead_letter_message,
                    receiver.defer_message,
                ),
                messages,
                strict=True,
            ):
                with pytest.raises(SessionLockLostError):
                    settle(message)
            for message in again:
                next_holder.complete_message(message)


def test_a_renewer_gives_up_after_its_time(client, queue):
    with AutoLockRenewer(max_lock_renewal_duration=LOCK_S + 2) as renewer, client.get_queue_receiver(queue) as receiver:
        send(client, queue, "m1")
        message = receive_one(receiver)
        renewer.register(receiver, message)
        wait_for_time_to_pass(LOCK_S + 1)
        assert not message._lock_expired
        wait_until(lambda: message._lock_expired, 3 * LOCK_S, "the end of the renewed lock")
        with pytest.raises(MessageLockLostError) as lost:
            receiver.complete_message(message)
        assert isinstance(lost.value.inner_exception, AutoLockRenewTimeout)
        assert receive_one(receiver).delivery_count == 1


def test_a_renewer_keeps_several_messages(client, queue):
    # One worker: several read one socket without a lock of their own, and now and then lose its bytes.
    # (They also give their requests the same delivery-ids, which the broker takes.)
    with AutoLockRenewer(max_workers=1) as renewer:
        with client.get_queue_receiver(queue, auto_lock_renewer=renewer) as receiver:
            send(client, queue, "m1", "m2", "m3")
            messages = receive(receiver, 3)
            wait_for_time_to_pass(LOCK_S + 1)
            for message in messages:
                receiver.complete_message(message)
            assert all_of(receiver) == []


def test_iterating_ends_when_nothing_more_comes(client, queue):
    send(client, queue, *[str(n) for n in range(10)])
    with client.get_queue_receiver(queue, max_wait_time=1.5) as receiver:
        taken = []
        for message in receiver:
            taken.append(body(message))
            if message.delivery_count == 0 and len(taken) % 2:
                receiver.abandon_message(message)
            else:
                receiver.complete_message(message)
        assert sorted(set(taken)) == sorted(str(n) for n in range(10))
        with pytest.raises(StopIteration):
            next(receiver)
        assert all_of(receiver) == []


def test_an_abandoned_message_waits_for_its_delay(client, queue):
    with client.get_queue_receiver(queue) as receiver:
        send(client, queue, "m1", "m2")
        first = receive_one(receiver)
        receiver.abandon_message(first)
        abandoned_at = time.monotonic()
        assert body(receive_one(receiver)) == "m2"
        again = receive_one(receiver)
        assert (body(again), again.delivery_count) == ("m1", 1)
        assert time.monotonic() - abandoned_at > 1.8
        receiver.complete_message(again)


def test_a_prefetching_receiver_takes_nothing_before_it_receives(client, queue):
    send(client, queue, *[str(n) for n in range(10)])
    deleting = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with client.get_queue_receiver(queue, receive_mode=deleting, prefetch_count=2) as receiver:
        assert len(all_of(receiver)) == 10
        messages = receive(receiver, 3)
        with pytest.raises(ValueError):
            receiver.complete_message(messages[0])
        messages += receive(receiver, 7)
        assert bodies(messages) == [str(n) for n in range(10)]
        assert all_of(receiver) == []


def test_a_message_that_waited_in_a_buffer_past_its_lock(unretried, queue):
    """It still shows the count of its hand-over; it cannot be settled; the next delivery counts."""
    with unretried.get_queue_receiver(queue, prefetch_count=10) as receiver:
        send(unretried, queue, "m1", "m2")
        first = receive_one(receiver)
        receiver.complete_message(first)
        wait_for_time_to_pass(LOCK_S + 0.5)
        stale = receive_one(receiver)
        assert (body(stale), stale.delivery_count) == ("m2", 0)
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(stale)
        again = receive_one(receiver)
        assert (body(again), again.delivery_count) == ("m2", 1)
        receiver.complete_message(again)


def test_a_dead_lettered_message_stays_what_it_was(unretried, queue):
    send(unretried, queue, "m1")
    with unretried.get_queue_receiver(queue) as receiver:
        message = receive_one(receiver)
        receiver.dead_letter_message(message, reason="why", error_description="what")
    with dead_letters_of(unretried, queue) as dead_letters:
        dead = receive_one(dead_letters)
        assert dead.application_properties == {b"DeadLetterReason": b"why", b"DeadLetterErrorDescription": b"what"}
        # Only what was forwarded from a dead-letter queue names its source.
        assert dead.dead_letter_source is None
        assert (dead.sequence_number, dead.enqueued_time_utc) == (message.sequence_number, message.enqueued_time_utc)
        assert dead.message_id == message.message_id
        with pytest.raises(ServiceBusError):
            dead_letters.dead_letter_message(dead, reason="again")
    with dead_letters_of(unretried, queue) as dead_letters:
        assert [m.dead_letter_reason for m in all_of(dead_letters)] == ["why"]
        dead_letters.complete_message(dead)
        assert all_of(dead_letters) == []


def test_the_transfer_dead_letter_queue_is_there_and_empty(unretried, queue):
    send(unretried, queue, "m1")
    with unretried.get_queue_receiver(queue) as receiver:
        receiver.dead_letter_message(receive_one(receiver))
    with unretried.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.TRANSFER_DEAD_LETTER) as transfers:
        assert all_of(transfers) == []
        assert_nothing_arrives(transfers, 0.5)
        with pytest.raises(MessageNotFoundError):
            transfers.receive_deferred_messages(1)
    with pytest.raises(ServiceBusError):
        send(unretried, f"{queue}/$Transfer/$DeadLetterQueue", "m2")


def test_aio_defers_schedules_and_settles(broker, queue):
    """The asynchronous client: the same requests by other code."""
    async def run():
        renewer = AsyncAutoLockRenewer()
        client = AsyncServiceBusClient.from_connection_string(broker.connection_string(), retry_total=0)
        async with client, renewer:
            async with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
                due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
                numbers = await sender.schedule_messages([ServiceBusMessage("one"), ServiceBusMessage("two")], due)
                await sender.cancel_scheduled_messages(numbers[1])
                with pytest.raises(MessageNotFoundError):
                    await sender.cancel_scheduled_messages(numbers[1])
                states = [m.state for m in await receiver.peek_messages(10)]
                assert states == [ServiceBusMessageState.SCHEDULED]
                (message,) = await receiver.receive_messages(1, max_wait_time=15)
                renewer.register(receiver, message)
                assert body(message) == "one"
                await receiver.defer_message(message)
                number = message.sequence_number
                (message,) = await receiver.receive_deferred_messages(number)
                assert message.delivery_count == 1
                before = message.locked_until_utc
                assert await receiver.renew_message_lock(message) >= before
                await receiver.abandon_message(message)
                (message,) = await receiver.receive_deferred_messages([number])
                await receiver.dead_letter_message(message, reason="aio")
                with pytest.raises(MessageNotFoundError):
                    await receiver.receive_deferred_messages([number])
            async with client.get_queue_receiver(queue, sub_queue="deadletter", max_wait_time=15) as dead_letters:
                async for message in dead_letters:
                    assert (message.dead_letter_reason, message.delivery_count) == ("aio", 2)
                    await dead_letters.complete_message(message)
                    break

    asyncio.run(run())
