"""Accepting, holding and releasing message sessions; order within and between them."""

import datetime
import threading
import time

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.exceptions import OperationTimeoutError, ServiceBusError, SessionCannotBeLockedError

from harness import assert_nothing_arrives, bodies, body, in_threads, receive, receive_one, wait_for_time_to_pass, wait_until


def send(client, queue, *pairs):
    """(session id, body) pairs, one transfer each, in this order."""
    with client.get_queue_sender(queue) as sender:
        for session_id, text in pairs:
            sender.send_messages(ServiceBusMessage(text, session_id=session_id))


def next_message_session(client, queue, wait_s=10):
    return client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=wait_s)


def test_interleaved_sends_are_demultiplexed_in_order(client, queue):
    ids = ["red", "green", "blue"]
    send(client, queue, *[(ids[n % 3], f"{ids[n % 3]}-{n // 3}") for n in range(30)])
    for session_id in ids:
        with client.get_queue_receiver(queue, session_id=session_id) as receiver:
            messages = receive(receiver, 10)
            assert bodies(messages) == [f"{session_id}-{n}" for n in range(10)]
            assert {message.session_id for message in messages} == {session_id}
            numbers = [message.sequence_number for message in messages]
            assert numbers == sorted(numbers)
            for message in messages:
                receiver.complete_message(message)
            assert_nothing_arrives(receiver, 0.5)


def test_accept_next_is_pending_until_a_message_arrives(broker, client, queue):
    opened = threading.Event()

    def accept():
        with broker.client() as other, next_message_session(other, queue, 30) as receiver:
            opened.set()
            message = receive_one(receiver)
            receiver.complete_message(message)
            return receiver.session.session_id, body(message)

    def send_later():
        wait_for_time_to_pass(1.5)
        assert not opened.is_set(), "the accept was answered before a message was there"
        send(client, queue, ("late", "m1"))

    accepted, sent = in_threads([accept, send_later])
    assert sent is None, sent
    assert accepted == ("late", "m1")


def test_accept_next_times_out_when_asked(broker, queue):
    with broker.client(retry_total=0) as client:
        started = time.monotonic()
        with pytest.raises(OperationTimeoutError):
            with next_message_session(client, queue, 2):
                pass
        assert 1.5 < time.monotonic() - started < 10


def test_an_accept_given_up_leaves_no_lock(broker, client, queue):
    with broker.client(retry_total=0) as impatient:
        with pytest.raises(OperationTimeoutError):
            with next_message_session(impatient, queue, 1):
                pass
        send(client, queue, ("free", "m1"))
        with next_message_session(client, queue, 5) as receiver:
            assert receiver.session.session_id == "free"
            message = receive_one(receiver)
            assert (body(message), message.delivery_count) == ("m1", 0)
            receiver.complete_message(message)


def test_accept_by_id_while_held_elsewhere_fails_at_once(broker, client, queue):
    send(client, queue, ("held", "m1"))
    with client.get_queue_receiver(queue, session_id="held") as holder:
        with broker.client(retry_total=0) as other:
            started = time.monotonic()
            with pytest.raises(SessionCannotBeLockedError):
                with other.get_queue_receiver(queue, session_id="held"):
                    pass
            assert time.monotonic() - started < 5
        holder.complete_message(receive_one(holder))


def test_different_ids_are_held_side_by_side(client, queue):
    send(client, queue, ("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"))
    with client.get_queue_receiver(queue, session_id="a") as first:
        with client.get_queue_receiver(queue, session_id="b") as second:
            assert bodies(receive(second, 2)) == ["b1", "b2"]
            assert bodies(receive(first, 2)) == ["a1", "a2"]


def test_fifty_racing_accepts_have_one_winner(broker, client, queue):
    send(client, queue, ("prize", "m1"))
    all_done = threading.Barrier(50)

    def race():
        with broker.client(retry_total=0) as one:
            receiver = one.get_queue_receiver(queue, session_id="prize")
            try:
                receiver.session.renew_lock()
                won = True
            except SessionCannotBeLockedError:
                won = False
            all_done.wait(100)  # the winner holds the lock until the last one was refused
            receiver.close()
            return won

    results = in_threads([race] * 50)
    assert [one for one in results if isinstance(one, Exception)] == []
    assert results.count(True) == 1


def test_ten_message_sessions_are_visited_before_any_twice(client, queue):
    ids = [f"s{n}" for n in range(10)]
    send(client, queue, *[(session_id, f"{round_}") for round_ in range(3) for session_id in ids])
    visited = []
    for _ in range(30):
        with next_message_session(client, queue) as receiver:
            visited.append(receiver.session.session_id)
            receiver.complete_message(receive_one(receiver))
    for round_ in range(3):
        assert sorted(visited[round_ * 10 : round_ * 10 + 10]) == sorted(ids), visited


def test_five_message_sessions_are_handed_out_once_then_timeout(broker, client, queue):
    send(client, queue, *[(f"s{n}", "only") for n in range(5)])
    visited = []
    for _ in range(5):
        with next_message_session(client, queue) as receiver:
            visited.append(receiver.session.session_id)
            receiver.complete_message(receive_one(receiver))
    assert sorted(visited) == [f"s{n}" for n in range(5)]
    with broker.client(retry_total=0) as other, pytest.raises(OperationTimeoutError):
        with next_message_session(other, queue, 1):
            pass


def test_an_id_without_messages_can_be_reserved(broker, client, queue):
    with client.get_queue_receiver(queue, session_id="mine") as receiver:
        send(client, queue, ("other", "not for me"))
        assert_nothing_arrives(receiver, 1)
        with broker.client(retry_total=0) as other, pytest.raises(SessionCannotBeLockedError):
            with other.get_queue_receiver(queue, session_id="mine"):
                pass
        send(client, queue, ("mine", "m1"))
        assert body(receive_one(receiver)) == "m1"


def test_messages_sent_while_held_reach_the_holder(broker, client, queue):
    send(client, queue, ("held", "m0"))
    with client.get_queue_receiver(queue, session_id="held") as receiver, broker.client() as other:
        assert body(receive_one(receiver)) == "m0"
        for n in range(1, 4):
            send(other, queue, ("held", f"m{n}"))
            assert body(receive_one(receiver)) == f"m{n}"


def test_abandoned_message_is_the_next_one(client, queue):
    send(client, queue, ("s", "m1"), ("s", "m2"))
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        for count in range(3):
            message = receive_one(receiver)
            assert (body(message), message.delivery_count) == ("m1", count)
            receiver.abandon_message(message)
        message = receive_one(receiver)
        assert (body(message), message.delivery_count) == ("m1", 3)
        receiver.complete_message(message)
        assert body(receive_one(receiver)) == "m2"


def test_abandon_the_first_of_three_in_flight(client, queue):
    send(client, queue, *[("s", f"m{n}") for n in range(1, 5)])
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        first, second, third = receive(receiver, 3)
        receiver.abandon_message(first)
        again = receive_one(receiver)
        assert (body(again), again.delivery_count) == ("m1", 1)
        fourth = receive_one(receiver)
        assert (body(fourth), fourth.delivery_count) == ("m4", 0)
        for message in (third, second, fourth, again):
            receiver.complete_message(message)


def test_settling_out_of_order_is_free(client, queue):
    send(client, queue, *[("s", f"m{n}") for n in range(1, 5)])
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        messages = receive(receiver, 3)
        receiver.complete_message(messages[2])
        receiver.complete_message(messages[0])
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        assert bodies(receive(receiver, 2)) == ["m2", "m4"]


def test_close_without_settling_leaves_the_count(client, queue):
    send(client, queue, ("s", "m1"), ("s", "m2"))
    for _ in range(3):
        with next_message_session(client, queue) as receiver:
            messages = receive(receiver, 2)
            assert bodies(messages) == ["m1", "m2"]
            assert [message.delivery_count for message in messages] == [0, 0]


def test_a_closed_message_session_is_free_at_once(broker, queue):
    with broker.client(retry_total=0) as first, broker.client(retry_total=0) as second:
        for _ in range(10):
            for one in (first, second):
                with one.get_queue_receiver(queue, session_id="passed on") as receiver:
                    receiver.session.renew_lock()


def test_dead_lettering_does_not_block_the_message_session(client, queue):
    send(client, queue, *[("s", f"m{n}") for n in range(1, 4)])
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        receiver.dead_letter_message(receive_one(receiver), reason="broken", error_description="does not parse")
        assert bodies(receive(receiver, 2)) == ["m2", "m3"]
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as dead_letters:
        message = receive_one(dead_letters)
        assert (body(message), message.session_id, message.delivery_count) == ("m1", "s", 0)
        assert (message.dead_letter_reason, message.dead_letter_error_description) == ("broken", "does not parse")
        dead_letters.complete_message(message)


def test_third_failure_dead_letters_in_a_message_session(client, queue):
    send(client, queue, ("s", "poison"), ("s", "good"))
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        for count in range(3):
            message = receive_one(receiver)
            assert (body(message), message.delivery_count) == ("poison", count)
            receiver.abandon_message(message)
        assert body(receive_one(receiver)) == "good"
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as dead_letters:
        message = receive_one(dead_letters)
        assert (body(message), message.session_id, message.delivery_count) == ("poison", "s", 3)
        assert message.dead_letter_reason == "MaxDeliveryCountExceeded"
        assert "3" in message.dead_letter_error_description


def test_receive_and_delete_in_a_message_session(client, queue):
    send(client, queue, *[("s", f"m{n}") for n in range(5)])
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with client.get_queue_receiver(queue, session_id="s", receive_mode=mode) as receiver:
        messages = receive(receiver, 5)
        assert bodies(messages) == [f"m{n}" for n in range(5)]
        with pytest.raises(ValueError):
            receiver.complete_message(messages[0])
        assert receiver.peek_messages(10) == []


def test_request_response_over_a_reply_message_session(broker, client, queue):
    requests, replies = f"{queue}.requests", f"{queue}.replies"
    requesters = 5

    def respond():
        with broker.client() as one, one.get_queue_receiver(requests) as receiver, one.get_queue_sender(replies) as sender:
            for _ in range(requesters):
                request = receive_one(receiver, 30)
                reply = ServiceBusMessage(
                    "reply to " + body(request),
                    session_id=request.reply_to_session_id,
                    correlation_id=request.message_id,
                )
                assert request.reply_to == replies
                sender.send_messages(reply)
                receiver.complete_message(request)

    def ask(n):
        with broker.client() as one, one.get_queue_receiver(replies, session_id=f"requester-{n}") as receiver:
            with one.get_queue_sender(requests) as sender:
                request = ServiceBusMessage(
                    f"question {n}", message_id=f"id-{n}", reply_to=replies, reply_to_session_id=f"requester-{n}"
                )
                sender.send_messages(request)
            reply = receive_one(receiver, 30)
            receiver.complete_message(reply)
            return body(reply), reply.correlation_id

    results = in_threads([respond] + [lambda n=n: ask(n) for n in range(requesters)])
    assert results[0] is None, results[0]
    assert results[1:] == [(f"reply to question {n}", f"id-{n}") for n in range(requesters)]


def test_several_handlers_drain_a_hundred_message_sessions(broker, client, queue):
    sessions, each, handlers = 100, 20, 4
    with client.get_queue_sender(queue) as sender:
        for n in range(each):
            for first in range(0, sessions, 50):
                sender.send_messages(
                    [ServiceBusMessage(str(n), session_id=f"s{s}") for s in range(first, first + 50)]
                )
    seen = {f"s{s}": [] for s in range(sessions)}

    def handle():
        with broker.client(retry_total=0) as one:
            while True:
                try:
                    with next_message_session(one, queue, 2) as receiver:
                        messages = receive(receiver, each)
                        seen[receiver.session.session_id] += bodies(messages)
                        for message in messages:
                            receiver.complete_message(message)
                except OperationTimeoutError:
                    return "drained"

    assert in_threads([handle] * handlers) == ["drained"] * handlers
    expected = [str(n) for n in range(each)]
    assert {session_id: texts for session_id, texts in seen.items() if texts != expected} == {}


def test_accept_and_close_cycles_do_not_leak(own_broker, queue):
    broker = own_broker()
    limit_s, most = 30, 2000

    def cycle(client):
        with client.get_queue_receiver(queue, session_id="again and again"):
            pass

    with broker.client(retry_total=0) as client:
        for _ in range(20):
            cycle(client)
        before = broker.resident_kib()
        end = time.monotonic() + limit_s
        done = 0
        while done < most and time.monotonic() < end:
            cycle(client)
            done += 1
        assert done >= 20, f"only {done} cycles in {limit_s} s"
        # A lock, link or connection that stays behind is visible long before this.
        grown = broker.resident_kib() - before
        assert grown < 16 * 1024, f"{grown} KiB more after {done} cycles"


def test_twenty_pending_accepts_and_one_message_wake_exactly_one(broker, client, queue):
    woken = []
    release = threading.Event()

    def wait_for_work():
        with broker.client(retry_total=0) as one:
            try:
                with next_message_session(one, queue, 6) as receiver:
                    woken.append(receiver.session.session_id)
                    release.wait(20)
                    receiver.complete_message(receive_one(receiver))
                    return "woken"
            except OperationTimeoutError:
                return "timed out"

    def send_one():
        wait_for_time_to_pass(2)
        send(client, queue, ("only", "m1"))
        wait_until(lambda: woken, what="an accept")
        wait_for_time_to_pass(1)
        release.set()

    results = in_threads([send_one] + [wait_for_work] * 20)
    assert results[0] is None, results[0]
    assert woken == ["only"]
    assert sorted(results[1:]) == ["timed out"] * 19 + ["woken"]


def test_closing_while_receiving_does_not_hang(broker, client, queue):
    receiver = next_message_session(client, queue)
    send(client, queue, ("s", "m1"))
    first = receive_one(receiver)
    started = time.monotonic()

    def keep_receiving():
        try:
            return receiver.receive_messages(max_message_count=5, max_wait_time=20)
        except Exception as error:  # the SDK ends a call on a closed handler in several ways
            return error

    def close():
        wait_for_time_to_pass(0.5)
        receiver.close()

    in_threads([keep_receiving, close])
    assert time.monotonic() - started < 15
    with broker.client(retry_total=0) as other, next_message_session(other, queue) as again:
        message = receive_one(again)
        assert (body(message), message.delivery_count) == (body(first), 0)


def test_the_empty_string_is_a_message_session_id(client, queue):
    send(client, queue, ("", "m1"), ("", "m2"))
    with client.get_queue_receiver(queue, session_id="") as receiver:
        assert body(receive_one(receiver)) == "m1"
    with next_message_session(client, queue) as receiver:
        assert receiver.session.session_id in ("", b"")
        assert bodies(receive(receiver, 2)) == ["m1", "m2"]


def test_message_sessions_are_listed(client, queue):
    assert list(client.list_queue_sessions(queue)) == []
    ids = [f"s{n:03}" for n in range(110)]
    with client.get_queue_sender(queue) as sender:
        for first in range(0, 110, 55):
            sender.send_messages([ServiceBusMessage("m", session_id=one) for one in ids[first : first + 55]])
    with client.get_queue_receiver(queue, session_id="state only") as receiver:
        receiver.session.set_state(b"x")
        # also while it is held
        assert sorted(client.list_queue_sessions(queue)) == sorted([*ids, "state only"])


def test_message_sessions_are_listed_by_state_update(client, queue):
    send(client, queue, ("messages only", "m"), ("early", "m"))
    with client.get_queue_receiver(queue, session_id="early") as receiver:
        receiver.session.set_state(b"x")
    wait_for_time_to_pass(0.05)
    between = datetime.datetime.now(datetime.timezone.utc)
    wait_for_time_to_pass(0.05)
    with client.get_queue_receiver(queue, session_id="later") as receiver:
        receiver.session.set_state(b"y")
    assert list(client.list_queue_sessions(queue, state_updated_after=between)) == ["later"]
    assert sorted(client.list_queue_sessions(queue, state_updated_after=between - datetime.timedelta(minutes=1))) == ["early", "later"]


def test_send_without_a_session_id_is_rejected(client, queue):
    with client.get_queue_sender(queue) as sender:
        with pytest.raises(ServiceBusError, match="SessionId was not set"):
            sender.send_messages(ServiceBusMessage("no id"))
        sender.send_messages(ServiceBusMessage("with id", session_id="s"))
    with next_message_session(client, queue) as receiver:
        assert bodies(receiver.peek_messages(10)) == ["with id"]


def test_one_message_without_a_session_id_fails_its_batch(client, queue):
    with client.get_queue_sender(queue) as sender:
        with pytest.raises(ServiceBusError):
            sender.send_messages([ServiceBusMessage("a", session_id="s"), ServiceBusMessage("b")])
        sender.send_messages(ServiceBusMessage("c", session_id="s"))
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        assert bodies(receiver.peek_messages(10)) == ["c"]


def test_a_plain_receiver_on_a_session_queue_is_refused(broker, queue):
    with broker.client(retry_total=0) as client:
        with pytest.raises(ServiceBusError, match="requires sessions"):
            with client.get_queue_receiver(queue):
                pass


def test_a_session_receiver_on_a_plain_queue_is_refused(broker, queue):
    with broker.client(retry_total=0) as client:
        for session_id in ("s", NEXT_AVAILABLE_SESSION):
            started = time.monotonic()
            with pytest.raises(ServiceBusError) as refused:
                with client.get_queue_receiver(queue, session_id=session_id, max_wait_time=20):
                    pass
            assert not isinstance(refused.value, (OperationTimeoutError, SessionCannotBeLockedError))
            assert time.monotonic() - started < 5
