"""What the scenarios of the Python SDK share."""

import pathlib
import threading
import time

import broker_process
from azure.servicebus import ServiceBusClient
from broker_process import (
    DELIVERY_DEADLINE_S,
    certificate_file,
    home_directory,
    policies,
    wait_for_time_to_pass,
    wait_until,
)

HERE = pathlib.Path(__file__).resolve().parent


def ca_certificate() -> str:
    return certificate_file("ca.pem")


class Broker(broker_process.Broker):
    """With clients of the SDK."""

    def client(self, policy="root", **options) -> ServiceBusClient:
        key, name = options.pop("key", None), options.pop("name", None)
        return ServiceBusClient.from_connection_string(self.connection_string(policy, key=key, name=name), **options)


def receive(receiver, count, within_s=DELIVERY_DEADLINE_S):
    """Exactly `count` messages, however many calls that takes."""
    messages = []
    end = time.monotonic() + within_s
    while len(messages) < count:
        left = end - time.monotonic()
        if left <= 0:
            raise AssertionError(f"{len(messages)} of {count} messages within {within_s} s: {bodies(messages)}")
        messages += receiver.receive_messages(max_message_count=count - len(messages), max_wait_time=left)
    return messages


def receive_one(receiver, within_s=DELIVERY_DEADLINE_S):
    return receive(receiver, 1, within_s)[0]


def assert_nothing_arrives(receiver, seconds=1):
    arrived = receiver.receive_messages(max_message_count=1, max_wait_time=seconds)
    assert not arrived, f"unexpected: {bodies(arrived)}"


def body(message) -> str:
    return str(message)


def bodies(messages) -> list:
    return [body(message) for message in messages]


def in_threads(functions):
    """Runs all at once; returns results in order, an exception object in place of a result that was raised."""
    results = [None] * len(functions)
    ready = threading.Barrier(len(functions))

    def run(index, function):
        ready.wait()
        try:
            results[index] = function()
        except Exception as error:  # the caller judges it
            results[index] = error

    threads = [threading.Thread(target=run, args=(i, f), daemon=True) for i, f in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
