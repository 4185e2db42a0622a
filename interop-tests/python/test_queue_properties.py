"""Sizes, quotas, states and the other properties that limit what a queue does."""

import pathlib

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import (
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityDisabledError,
    ServiceBusError,
    ServiceBusQuotaExceededError,
)

from harness import (
    assert_nothing_arrives,
    bodies,
    body,
    home_directory,
    receive,
    receive_one,
    wait_for_time_to_pass,
)

MIB = 1024 * 1024


def send(client, queue, *texts, session_id=None):
    with client.get_queue_sender(queue) as sender:
        for text in texts:
            sender.send_messages(ServiceBusMessage(text, session_id=session_id))


def dead_letters_of(client, queue):
    return client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)


def all_of(receiver):
    return receiver.peek_messages(100, sequence_number=1)


def test_a_queue_of_one_mib_takes_messages_and_batches_of_that(client, queue):
    with client.get_queue_sender(queue) as sender:
        batch = sender.create_message_batch()
        assert batch.max_size_in_bytes == MIB
        for _ in range(3):
            batch.add_message(ServiceBusMessage(b"b" * (340 * 1024)))
        with pytest.raises(MessageSizeExceededError):
            batch.add_message(ServiceBusMessage(b"b" * (10 * 1024)))
        sender.send_messages(batch)
        sender.send_messages(ServiceBusMessage(b"a" * (MIB - 1024)))
        with pytest.raises(MessageSizeExceededError):
            sender.send_messages(ServiceBusMessage(b"a" * MIB))
    with client.get_queue_receiver(queue) as receiver:
        messages = receive(receiver, 4)
        assert [sum(map(len, m.body)) for m in messages] == [340 * 1024] * 3 + [MIB - 1024]


def test_a_queue_of_100_mib_takes_batches_of_one(client, queue):
    with client.get_queue_sender(queue) as sender:
        assert sender.create_message_batch().max_size_in_bytes == MIB
        with pytest.raises(MessageSizeExceededError):
            sender.send_messages([ServiceBusMessage(b"b" * (600 * 1024)), ServiceBusMessage(b"b" * (600 * 1024))])
        large = bytes(range(256)) * (12 * MIB // 256)
        sender.send_messages(ServiceBusMessage(large))
    with client.get_queue_receiver(queue) as receiver:
        message = receive_one(receiver, 60)
        assert b"".join(message.body) == large
        receiver.defer_message(message)
        (message,) = receiver.receive_deferred_messages(message.sequence_number)
        assert b"".join(message.body) == large
        receiver.dead_letter_message(message, reason="large")
    with dead_letters_of(client, queue) as dead_letters:
        message = receive_one(dead_letters, 60)
        assert (b"".join(message.body) == large, message.dead_letter_reason) == (True, "large")
        dead_letters.complete_message(message)


def test_a_property_over_its_limit_is_refused(unretried, queue):
    with unretried.get_queue_sender(queue) as sender:
        for properties in ({"k": "v" * 33_000}, {f"k{n}": "v" * 8_000 for n in range(9)}):
            with pytest.raises(ServiceBusError):
                sender.send_messages(ServiceBusMessage("x", application_properties=properties))
    with unretried.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("m1", application_properties={"k": "v" * 32_000}))
    with unretried.get_queue_receiver(queue) as receiver:
        assert bodies(all_of(receiver)) == ["m1"]


def test_one_refused_message_fails_its_batch(unretried, queue):
    with unretried.get_queue_sender(queue) as sender, pytest.raises(ServiceBusError):
        sender.send_messages(
            [
                ServiceBusMessage("m1"),
                ServiceBusMessage("m2", application_properties={"k": "v" * 33_000}),
                ServiceBusMessage("m3"),
            ]
        )
    send(unretried, queue, "after")
    with unretried.get_queue_receiver(queue) as receiver:
        (message,) = all_of(receiver)
        assert (body(message), message.sequence_number) == ("after", 1)


def test_a_full_queue_refuses_until_there_is_room(unretried, queue):
    part = "x" * 200_000
    with unretried.get_queue_sender(queue) as sender:
        taken = 0
        with pytest.raises(ServiceBusQuotaExceededError):
            for _ in range(20):
                sender.send_messages(ServiceBusMessage(part))
                taken += 1
    assert MIB // 200_000 <= taken <= MIB // 200_000 + 1
    with unretried.get_queue_receiver(queue) as receiver, dead_letters_of(unretried, queue) as dead_letters:
        messages = receive(receiver, taken)
        for message in messages:
            receiver.dead_letter_message(message)
        # What is in the dead-letter queue counts.
        with pytest.raises(ServiceBusQuotaExceededError):
            send(unretried, queue, "still too much")
        with pytest.raises(ServiceBusQuotaExceededError), unretried.get_queue_sender(queue) as sender:
            sender.schedule_messages(ServiceBusMessage("x"), messages[0].enqueued_time_utc.replace(year=9000))
        for message in receive(dead_letters, taken):
            dead_letters.complete_message(message)
        send(unretried, queue, "room again")
        assert body(receive_one(receiver)) == "room again"


def test_state_counts_for_the_quota(unretried, queue):
    def set_state(number, state):
        with unretried.get_queue_receiver(queue, session_id=f"s{number}") as receiver:
            receiver.session.set_state(state)

    for number in range(4):
        set_state(number, b"s" * 240_000)
    with pytest.raises(ServiceBusQuotaExceededError):
        set_state(4, b"s" * 240_000)
    send(unretried, queue, "x" * 100_000, session_id="s")
    with pytest.raises(ServiceBusQuotaExceededError):
        send(unretried, queue, "m2", session_id="s")
    set_state(0, None)
    send(unretried, queue, "m3", session_id="s")


def with_status(queue, status) -> pathlib.Path:
    """A copy of the configuration in which that queue has another status."""
    text = (home_directory() / "lockstep.toml").read_text()
    name = f'name = "{queue}"\n'
    assert name in text
    path = home_directory() / f"{queue}.toml"
    path.write_text(text.replace(name, f'{name}status = "{status}"\n'))
    return path


def test_a_disabled_queue_says_so(own_broker, queue):
    """Made with messages in it, then disabled in each way at a new start."""
    broker = own_broker(configuration=with_status(queue, "Active"))
    with broker.client(retry_total=0) as client:
        send(client, queue, "m1", "m2", "m3")
        with client.get_queue_receiver(queue) as receiver:
            deferred = receive_one(receiver)
            receiver.defer_message(deferred)
    for status, sends, receives in (
        ("SendDisabled", False, True),
        ("ReceiveDisabled", True, False),
        ("Disabled", False, False),
        ("Active", True, True),
    ):
        with_status(queue, status)
        broker.restart()
        with broker.client(retry_total=0) as client:
            if sends:
                send(client, queue, status)
            else:
                with pytest.raises(MessagingEntityDisabledError):
                    send(client, queue, status)
            if receives:
                with client.get_queue_receiver(queue) as receiver:
                    receiver.complete_message(receive_one(receiver))
            else:
                with pytest.raises(MessagingEntityDisabledError), client.get_queue_receiver(queue) as receiver:
                    receiver.receive_messages(1, max_wait_time=1)
    with broker.client(retry_total=0) as client, client.get_queue_receiver(queue) as receiver:
        assert bodies(all_of(receiver)) == ["m1", "ReceiveDisabled", "Active"]


def test_keys_of_a_partitioned_queue(unretried, queue):
    with unretried.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("keyed", partition_key="k"))
        sender.send_messages([ServiceBusMessage(str(n), partition_key="k") for n in range(2)])
        sender.send_messages([ServiceBusMessage("none"), ServiceBusMessage("at all")])
        with pytest.raises(ServiceBusError):
            sender.send_messages([ServiceBusMessage("x", partition_key="a"), ServiceBusMessage("y", partition_key="b")])
    with unretried.get_queue_receiver(queue) as receiver:
        messages = receive(receiver, 5)
        assert [m.partition_key for m in messages] == ["k", "k", "k", None, None]
        assert [m.sequence_number for m in messages] == [1, 2, 3, 4, 5]


def test_a_batch_to_a_partitioned_queue_is_of_one_message_session(unretried, queue):
    with unretried.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(n), session_id="a", partition_key="a") for n in range(2)])
    with unretried.get_queue_sender(queue) as sender, pytest.raises(ServiceBusError):
        sender.send_messages([ServiceBusMessage("x", session_id="a"), ServiceBusMessage("y", session_id="b")])
    other_key = ServiceBusMessage("x", session_id="a")
    other_key.raw_amqp_message.annotations[b"x-opt-partition-key"] = "b"
    with unretried.get_queue_sender(queue) as sender, pytest.raises(ServiceBusError):
        sender.send_messages(other_key)
    with unretried.get_queue_receiver(queue, session_id="a") as receiver:
        assert bodies(receive(receiver, 2)) == ["0", "1"]
        assert_nothing_arrives(receiver, 0.5)


def test_clients_go_on_when_their_idle_links_were_detached(own_broker, queue):
    """Links that are not used for a second; those that hold something are never idle."""
    path = home_directory() / f"{queue}.toml"
    limits = "[limits]\nlink_idle_timeout_s = 1\nconnection_without_links_timeout_s = 1\n"
    path.write_text(limits + (home_directory() / "lockstep.toml").read_text())
    broker = own_broker(configuration=path)
    with broker.client() as client, client.get_queue_sender(queue) as sender:
        with client.get_queue_receiver(queue, session_id="held") as holder:
            sender.send_messages(ServiceBusMessage("m1", session_id="held"))
            held = receive_one(holder)
            for number in range(2):
                wait_for_time_to_pass(2.5)
                sender.send_messages(ServiceBusMessage(str(number), session_id="other"))
            holder.complete_message(held)
            sender.send_messages(ServiceBusMessage("m2", session_id="held"))
            assert body(receive_one(holder)) == "m2"
        with client.get_queue_receiver(queue, session_id="other") as receiver:
            assert bodies(receive(receiver, 2)) == ["0", "1"]


def test_unused_state_is_removed_after_its_time(client, queue):
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        receiver.session.set_state(b"old")
        wait_for_time_to_pass(2.5)
        assert receiver.session.get_state() == b"old"  # it is held
    wait_for_time_to_pass(1.5)
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        assert receiver.session.get_state() is None


def test_a_queue_can_count_what_its_holders_leave(client, queue):
    send(client, queue, "poison", session_id="s")
    for count in range(3):
        with client.get_queue_receiver(queue, session_id="s") as receiver:
            assert receive_one(receiver).delivery_count == count
    with dead_letters_of(client, queue) as dead_letters:
        message = receive_one(dead_letters)
        assert (body(message), message.dead_letter_reason) == ("poison", "MaxDeliveryCountExceeded")


def test_peek_in_every_corner(unretried, queue):
    """Empty, dead letters, numbers before and after all that is there."""
    with unretried.get_queue_receiver(queue) as receiver, dead_letters_of(unretried, queue) as dead_letters:
        assert receiver.peek_messages(10) == []
        assert receiver.peek_messages(10, sequence_number=50) == []
        assert dead_letters.peek_messages(10) == []
        send(unretried, queue, *[f"m{n}" for n in range(1, 8)])
        for message in receive(receiver, 7):
            if message.sequence_number % 2:
                receiver.dead_letter_message(message)
            else:
                receiver.abandon_message(message)
        assert [m.sequence_number for m in receiver.peek_messages(2, sequence_number=1)] == [2, 4]
        assert [m.sequence_number for m in receiver.peek_messages(2)] == [6]  # it goes on behind the last
        assert receiver.peek_messages(2) == []
        assert [m.sequence_number for m in receiver.peek_messages(10, sequence_number=3)] == [4, 6]
        assert [m.sequence_number for m in dead_letters.peek_messages(3)] == [1, 3, 5]
        assert [m.sequence_number for m in dead_letters.peek_messages(3)] == [7]
        (peeked,) = dead_letters.peek_messages(1, sequence_number=7)
        with pytest.raises(ValueError):
            dead_letters.complete_message(peeked)
        assert len(receive(dead_letters, 4)) == 4
        with pytest.raises(MessageNotFoundError):
            dead_letters.receive_deferred_messages(1)


def test_peek_in_message_sessions(client, queue):
    send(client, queue, "a1", "a2", session_id="a")
    send(client, queue, "b1", session_id="b")
    send(client, queue, "a3", session_id="a")
    with client.get_queue_receiver(queue, session_id="a") as receiver:
        locked = receive_one(receiver)
        assert [(body(m), m.session_id) for m in all_of(receiver)] == [(f"a{n}", "a") for n in (1, 2, 3)]
        assert bodies(receiver.peek_messages(10, sequence_number=locked.sequence_number + 1)) == ["a2", "a3"]
    with client.get_queue_receiver(queue, session_id="nothing") as receiver:
        assert receiver.peek_messages(10) == []
