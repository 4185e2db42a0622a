"""ServiceBusAdministrationClient over TLS on the broker's one port: queues at run time."""

import datetime

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import (
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
)
from azure.servicebus.management import (
    AccessRights,
    AuthorizationRule,
    EntityStatus,
    ServiceBusAdministrationClient,
)

from harness import bodies, ca_certificate, policies, receive_one

SECONDS = datetime.timedelta(seconds=1)


def administrator(broker, policy="root"):
    """The connection string that messages go by, and a certificate to trust; nothing else."""
    text = broker.connection_string(policy, host=f"localhost:{broker.port}")
    return ServiceBusAdministrationClient.from_connection_string(text, connection_verify=ca_certificate())


@pytest.fixture
def admin(broker):
    with administrator(broker) as one:
        yield one


@pytest.fixture
def made(admin, queue):
    """A name for a queue that the test makes; it is gone afterwards."""
    name = f"Made/{queue}"
    yield name
    try:
        admin.delete_queue(name)
    except ResourceNotFoundError:
        pass


def send(client, queue, *texts, **properties):
    with client.get_queue_sender(queue) as sender:
        for text in texts:
            sender.send_messages(ServiceBusMessage(text, **properties))


def test_a_queue_is_created_read_updated_and_deleted(admin, made):
    created = admin.create_queue(made, lock_duration=30 * SECONDS, max_delivery_count=3)
    assert (created.name, created.lock_duration, created.max_delivery_count) == (made, 30 * SECONDS, 3)
    with pytest.raises(ResourceExistsError):
        admin.create_queue(made.upper())
    # Any letter case finds it; this client shows a name as it was asked for.
    read = admin.get_queue(made.lower())
    assert (read.lock_duration, read.requires_session) == (30 * SECONDS, False)
    read = admin.get_queue(made)
    read.lock_duration = datetime.timedelta(minutes=4, seconds=59)
    read.user_metadata = "<&> \"ü\" ]]>"
    admin.update_queue(read)
    read = admin.get_queue(made)
    assert read.lock_duration == datetime.timedelta(minutes=4, seconds=59)
    assert (read.user_metadata, read.max_delivery_count) == ("<&> \"ü\" ]]>", 3)
    admin.delete_queue(made)
    for call in (admin.get_queue, admin.get_queue_runtime_properties, admin.delete_queue):
        with pytest.raises(ResourceNotFoundError):
            call(made)
    with pytest.raises(ResourceNotFoundError):
        admin.update_queue(read)


def rule(name, *rights):
    key = policies()["root"]
    return AuthorizationRule(
        type="SharedAccessAuthorizationRule",
        claim_type="SharedAccessKey",
        claim_value="None",
        rights=list(rights),
        key_name=name,
        primary_key=key,
        secondary_key=key[::-1][1:] + "=",
    )


def test_every_property_of_a_queue_comes_back_as_it_was_given(admin, made):
    given = {
        "authorization_rules": [
            rule("all", AccessRights.MANAGE, AccessRights.SEND, AccessRights.LISTEN),
            rule("listen", AccessRights.LISTEN),
        ],
        "auto_delete_on_idle": datetime.timedelta(days=2),
        "dead_lettering_on_message_expiration": True,
        "default_message_time_to_live": datetime.timedelta(minutes=11),
        "duplicate_detection_history_time_window": datetime.timedelta(minutes=12),
        "enable_batched_operations": False,
        "enable_partitioning": True,
        "lock_duration": datetime.timedelta(seconds=13),
        "max_delivery_count": 14,
        "max_size_in_megabytes": 3072,
        "requires_duplicate_detection": True,
        "requires_session": True,
        "status": EntityStatus.RECEIVE_DISABLED,
        "user_metadata": "data",
    }
    admin.create_queue(made, **given)
    read = admin.get_queue(made)
    rules = [(one.key_name, one.rights, one.primary_key, one.secondary_key) for one in read.authorization_rules]
    assert rules == [(one.key_name, one.rights, one.primary_key, one.secondary_key) for one in given["authorization_rules"]]
    for name, value in given.items():
        if name == "max_size_in_megabytes":
            # Of all partitions, as in Service Bus.
            assert read.max_size_in_megabytes == 16 * value
        elif name != "authorization_rules":
            assert getattr(read, name) == value, name
    # What was read can be sent back as it is.
    admin.update_queue(read)
    again = admin.get_queue(made)
    assert {name: getattr(again, name) for name in given if name != "authorization_rules"} == {
        name: getattr(read, name) for name in given if name != "authorization_rules"
    }


def test_a_queue_has_the_defaults_of_service_bus(admin, made):
    admin.create_queue(made)
    read = admin.get_queue(made)
    forever = datetime.timedelta(days=10675199)
    assert read.lock_duration == datetime.timedelta(minutes=1)
    assert read.duplicate_detection_history_time_window == datetime.timedelta(minutes=10)
    assert read.default_message_time_to_live >= forever and read.auto_delete_on_idle >= forever
    assert (read.max_delivery_count, read.max_size_in_megabytes) == (10, 1024)
    assert (read.enable_batched_operations, read.enable_express, read.enable_partitioning) == (True, False, False)
    assert (read.requires_session, read.requires_duplicate_detection) == (False, False)
    assert (read.status, read.availability_status) == (EntityStatus.ACTIVE, "Available")
    assert (read.forward_to, read.user_metadata, read.authorization_rules or []) == (None, None, [])
    admin.update_queue(read)
    assert admin.get_queue(made).default_message_time_to_live == read.default_message_time_to_live


def test_queues_are_listed_over_several_pages(admin, made, queue):
    admin.create_queue(made)
    names = [one.name for one in admin.list_queues()]
    assert len(names) > 200 and {made, queue} <= set(names)
    assert names == sorted(set(names), key=str.lower)
    runtime = {one.name: one for one in admin.list_queues_runtime_properties()}
    assert made in runtime and runtime[made].total_message_count == 0


def test_runtime_counts_are_exact(broker, admin, client, made):
    admin.create_queue(made)
    before = admin.get_queue_runtime_properties(made)
    assert (before.total_message_count, before.size_in_bytes, before.accessed_at_utc.year) == (0, 0, 1)
    send(client, made, "locked", "dead", "active")
    with client.get_queue_sender(made) as sender:
        due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        sender.schedule_messages(ServiceBusMessage("scheduled"), due)
    with client.get_queue_receiver(made) as receiver:
        receive_one(receiver)
        receiver.dead_letter_message(receive_one(receiver))
        counts = admin.get_queue_runtime_properties(made)
    assert (counts.total_message_count, counts.active_message_count) == (4, 2)
    assert (counts.dead_letter_message_count, counts.scheduled_message_count) == (1, 1)
    assert (counts.transfer_message_count, counts.transfer_dead_letter_message_count) == (0, 0)
    assert counts.size_in_bytes > 0
    assert counts.created_at_utc == before.created_at_utc and counts.created_at_utc.year > 2000
    assert counts.created_at_utc <= counts.updated_at_utc <= counts.accessed_at_utc


def test_a_queue_made_at_run_time_serves_messages_and_survives_a_kill(own_broker, queue):
    broker = own_broker()
    made = "Made/one"
    with administrator(broker) as admin:
        admin.create_queue(made, requires_session=True, user_metadata="kept")
        changed = admin.get_queue(queue)
        changed.max_delivery_count = 77
        admin.update_queue(changed)
        assert admin.get_queue(queue).max_delivery_count == 77
        with broker.client() as client:
            send(client, made, "m1", session_id="a")
    broker.restart()
    with administrator(broker) as admin, broker.client() as client:
        read = admin.get_queue(made)
        assert (read.name, read.requires_session, read.user_metadata) == (made, True, "kept")
        with client.get_queue_receiver(made, session_id="a") as receiver:
            message = receive_one(receiver)
            assert bodies([message]) == ["m1"]
            receiver.complete_message(message)
        # For a queue that the file names the file wins, and says so.
        assert admin.get_queue(queue).max_delivery_count == 10
        log = broker.log_tail(500)
        assert f"queue '{queue}' of namespace 'sbtest' is stored with another max_delivery_count" in log
        assert f"'{made}'" not in log.split("stored with another")[0].splitlines()[-1]
        admin.delete_queue(made)
    broker.restart()
    with administrator(broker) as admin, pytest.raises(ResourceNotFoundError):
        admin.get_queue(made)


def test_deleting_a_queue_ends_its_links_and_its_messages(broker, admin, made):
    admin.create_queue(made)
    # This client notices a detach by a failed send and learns the reason when it attaches again.
    with broker.client(retry_total=1) as client:
        with client.get_queue_sender(made) as sender, client.get_queue_receiver(made) as receiver:
            sender.send_messages([ServiceBusMessage("m1"), ServiceBusMessage("m2")])
            receive_one(receiver)
            admin.delete_queue(made)
            # Attaching again begins with a token; that one for what is not there is refused is an
            # authentication error to this client.
            gone = (MessagingEntityNotFoundError, ServiceBusAuthenticationError)
            with pytest.raises(gone):
                sender.send_messages(ServiceBusMessage("m3"))
            with pytest.raises(gone):
                receiver.receive_messages(max_wait_time=5)
        admin.create_queue(made)
        send(client, made, "again")
        with client.get_queue_receiver(made) as receiver:
            message = receive_one(receiver)
            assert (bodies([message]), message.sequence_number) == (["again"], 1)
            receiver.complete_message(message)


def test_a_status_set_at_run_time_is_in_force_at_once(broker, admin, made):
    admin.create_queue(made)
    with broker.client(retry_total=1) as client:
        with client.get_queue_sender(made) as sender:
            sender.send_messages(ServiceBusMessage("m1"))
            properties = admin.get_queue(made)
            properties.status = EntityStatus.SEND_DISABLED
            admin.update_queue(properties)
            with pytest.raises(MessagingEntityDisabledError):
                sender.send_messages(ServiceBusMessage("m2"))
        with client.get_queue_receiver(made) as receiver:
            receiver.complete_message(receive_one(receiver))
        properties.status = EntityStatus.DISABLED
        admin.update_queue(properties)
        with pytest.raises(MessagingEntityDisabledError):
            with client.get_queue_receiver(made):
                pass
        properties.status = EntityStatus.ACTIVE
        admin.update_queue(properties)
        send(client, made, "m3")


def test_an_update_is_in_force_on_open_links(broker, admin, client, made):
    admin.create_queue(made, lock_duration=30 * SECONDS)

    def locked_for(receiver):
        message = receive_one(receiver)
        left = message.locked_until_utc - datetime.datetime.now(datetime.timezone.utc)
        receiver.complete_message(message)
        return left.total_seconds()

    with client.get_queue_sender(made) as sender, client.get_queue_receiver(made) as receiver:
        sender.send_messages(ServiceBusMessage("m1"))
        assert 10 < locked_for(receiver) <= 30
        properties = admin.get_queue(made)
        properties.lock_duration = 200 * SECONDS
        properties.default_message_time_to_live = datetime.timedelta(minutes=3)
        admin.update_queue(properties)
        # The same links go on.
        sender.send_messages(ServiceBusMessage("m2", time_to_live=datetime.timedelta(hours=1)))
        peeked = receiver.peek_messages(1)[0]
        assert peeked.time_to_live == datetime.timedelta(minutes=3)
        assert 100 < locked_for(receiver) <= 200


def test_what_service_bus_refuses_is_refused_and_changes_nothing(admin, made):
    for wrong in (
        {"lock_duration": datetime.timedelta(days=25)},
        {"max_size_in_megabytes": 1000},
        {"max_delivery_count": 0},
        {"max_message_size_in_kilobytes": 1024},
        {"auto_delete_on_idle": SECONDS},
        {"enable_express": True, "requires_duplicate_detection": True},
    ):
        with pytest.raises(HttpResponseError) as refused:
            admin.create_queue(made, **wrong)
        assert refused.value.status_code == 400 and "SubCode=40000" in refused.value.message, wrong
    with pytest.raises(ResourceNotFoundError):
        admin.get_queue(made)
    admin.create_queue(made)
    for name in ("requires_session", "requires_duplicate_detection", "enable_partitioning"):
        properties = admin.get_queue(made)
        setattr(properties, name, True)
        with pytest.raises(HttpResponseError) as refused:
            admin.update_queue(properties)
        assert refused.value.status_code == 400 and "cannot be changed" in refused.value.message
        assert getattr(admin.get_queue(made), name) is False
    properties = admin.get_queue(made)
    properties.lock_duration = datetime.timedelta(days=25)
    with pytest.raises(HttpResponseError):
        admin.update_queue(properties)
    assert admin.get_queue(made).lock_duration == 60 * SECONDS


def test_what_a_later_version_brings_is_refused_by_name(admin, made, queue):
    for wanted in ({"forward_to": queue}, {"forward_dead_lettered_messages_to": queue}):
        with pytest.raises(HttpResponseError, match="Forward") as refused:
            admin.create_queue(made, **wanted)
        assert refused.value.status_code == 501
    with pytest.raises(HttpResponseError, match="topics") as refused:
        admin.create_topic(made)
    assert refused.value.status_code == 501
    assert list(admin.list_topics()) == []
    with pytest.raises(ResourceNotFoundError):
        admin.get_topic(made)
    with pytest.raises(ResourceNotFoundError):
        admin.get_subscription(made, "s")


def test_administration_needs_a_key_that_gives_manage(broker, admin, made, queue):
    with administrator(broker, "listen-only") as other:
        with pytest.raises(ResourceNotFoundError):
            other.get_queue(made)
        for call in (
            lambda: other.get_queue(queue),
            lambda: other.create_queue(made),
            lambda: other.delete_queue(queue),
            lambda: list(other.list_queues()),
            other.get_namespace_properties,
        ):
            with pytest.raises(ClientAuthenticationError):
                call()
    text = broker.connection_string(key="bm90IHRoZSBrZXk=", name="root", host=f"localhost:{broker.port}")
    with ServiceBusAdministrationClient.from_connection_string(text, connection_verify=ca_certificate()) as stranger:
        for name in (queue, made):
            with pytest.raises(ClientAuthenticationError):
                stranger.get_queue(name)
    assert admin.get_queue(queue).name == queue


def test_rules_of_a_queue_open_it_alone(broker, admin, made, queue):
    rules = [rule("of-the-queue", AccessRights.MANAGE, AccessRights.SEND, AccessRights.LISTEN)]
    admin.create_queue(made, authorization_rules=rules)
    for key in (rules[0].primary_key, rules[0].secondary_key):
        with broker.client(name="of-the-queue", key=key, retry_total=0) as client:
            send(client, made, "m1")
            with client.get_queue_receiver(made) as receiver:
                receiver.complete_message(receive_one(receiver))
            with pytest.raises(ServiceBusAuthenticationError):
                send(client, queue, "m1")
    properties = admin.get_queue(made)
    properties.authorization_rules = []
    admin.update_queue(properties)
    with broker.client(name="of-the-queue", key=rules[0].primary_key, retry_total=0) as client:
        with pytest.raises(ServiceBusAuthenticationError):
            send(client, made, "m2")


def test_properties_of_the_namespace_are_told(admin):
    properties = admin.get_namespace_properties()
    assert (properties.name, properties.messaging_sku, properties.messaging_units) == ("sbtest", "Standard", None)
    assert properties.created_at_utc.year > 2000 and properties.modified_at_utc.year > 2000
