"""What was accepted is there after the process was killed."""

from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue

from harness import assert_nothing_arrives, bodies, body, receive, receive_one


def test_killed_broker_keeps_accepted_messages_in_order(own_broker, queue):
    broker = own_broker()
    accepted = {"a": [], "b": []}
    with broker.client(retry_total=0) as client:
        with client.get_queue_sender(queue) as sender:
            for n in range(40):
                session_id = "ab"[n % 2]
                sender.send_messages(ServiceBusMessage(str(n), session_id=session_id))
                accepted[session_id].append(str(n))
        with client.get_queue_receiver(queue, session_id="a") as receiver:
            for message in receive(receiver, 5):
                receiver.complete_message(message)
            receiver.dead_letter_message(receive_one(receiver), reason="kept")
            unsettled = receive(receiver, 2)
            broker.kill()
    assert bodies(unsettled) == accepted["a"][6:8]
    broker.start()
    with broker.client() as client:
        with client.get_queue_receiver(queue, session_id="a") as receiver:
            assert bodies(receive(receiver, 14)) == accepted["a"][6:]
        with client.get_queue_receiver(queue, session_id="b") as receiver:
            assert bodies(receive(receiver, 20)) == accepted["b"]
        with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            message = receive_one(receiver)
            assert (body(message), message.dead_letter_reason) == (accepted["a"][5], "kept")
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(ServiceBusMessage("after", session_id="b"))
        with client.get_queue_receiver(queue, session_id="b") as receiver:
            numbers = [m.sequence_number for m in receive(receiver, 21)]
            assert numbers == sorted(set(numbers))


def test_killed_broker_forgets_what_was_settled(own_broker, queue):
    broker = own_broker()
    with broker.client() as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages([ServiceBusMessage(str(n)) for n in range(20)])
        with client.get_queue_receiver(queue) as receiver:
            for message in receive(receiver, 20):
                if int(body(message)) % 2:
                    receiver.complete_message(message)
            broker.kill()
    broker.start()
    with broker.client() as client, client.get_queue_receiver(queue) as receiver:
        kept = receive(receiver, 10, 90)
        assert bodies(kept) == [str(n) for n in range(0, 20, 2)]
        assert_nothing_arrives(receiver, 1)


def test_clean_shutdown_raises_no_count(own_broker, queue):
    broker = own_broker()
    with broker.client(retry_total=0) as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages([ServiceBusMessage(str(n), session_id="s") for n in range(3)])
        with client.get_queue_receiver(queue, session_id="s") as receiver:
            receive(receiver, 2)
            assert broker.stop() == 0
    broker.start()
    with broker.client() as client, client.get_queue_receiver(queue, session_id="s") as receiver:
        messages = receive(receiver, 3)
        assert [(body(m), m.delivery_count) for m in messages] == [("0", 0), ("1", 0), ("2", 0)]
