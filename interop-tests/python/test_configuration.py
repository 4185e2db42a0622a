"""--dev, and the configuration file of the Microsoft emulator."""

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import ServiceBusAuthenticationError

from harness import body, policies, receive_one

EMULATOR_CONFIGURATION = """
{
  // comments are part of the emulator's own sample
  "UserConfig": {
    "Namespaces": [
      {
        "Name": "sbemulatorns",
        "Queues": [
          { "Name": "jobs", "Properties": { "LockDuration": "PT30S", "RequiresSession": true } },
          /* everything left out */
          { "Name": "plain" }
        ]
      }
    ],
    "Logging": { "Type": "Console" }
  }
}
"""


def emulator_broker(own_broker, tmp_path, *options):
    emulator = tmp_path / "Config.json"
    emulator.write_text(EMULATOR_CONFIGURATION)
    own = tmp_path / "lockstep.toml"
    own.write_text(
        '[[namespace]]\nname = "sbemulatorns"\n[[namespace.policy]]\nname = "root"\n'
        f'primary_key = "{policies()["root"]}"\nrights = ["Manage", "Send", "Listen"]\n'
    )
    return own_broker(configuration=own, options=["--emulator-config", emulator, *options])


def abandons_until_dead_lettered(client, queue):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("poison"))
    count = 0
    with client.get_queue_receiver(queue) as receiver:
        while receiver.peek_messages(1, sequence_number=1):
            receiver.abandon_message(receive_one(receiver))
            count += 1
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        assert receive_one(receiver).dead_letter_reason == "MaxDeliveryCountExceeded"
    return count


def test_an_emulator_configuration_serves_its_queues(own_broker, tmp_path):
    broker = emulator_broker(own_broker, tmp_path)
    with broker.client() as client:
        with client.get_queue_sender("jobs") as sender:
            sender.send_messages(ServiceBusMessage("m1", session_id="s"))
        with client.get_queue_receiver("jobs", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=10) as receiver:
            assert receiver.session.session_id == "s"
            receiver.complete_message(receive_one(receiver))
        assert abandons_until_dead_lettered(client, "plain") == 10


def test_emulator_defaults_are_used_when_asked(own_broker, tmp_path):
    broker = emulator_broker(own_broker, tmp_path, "--emulator-defaults")
    with broker.client() as client:
        assert abandons_until_dead_lettered(client, "plain") == 3


def configuration_with(path, *queues):
    path.write_text(
        '[[namespace]]\nname = "sbtest"\n[[namespace.policy]]\nname = "root"\n'
        f'primary_key = "{policies()["root"]}"\nrights = ["Manage", "Send", "Listen"]\n' + "".join(queues)
    )


PLAIN = '[[namespace.queue]]\nname = "stays"\n'
WITH_MESSAGE_SESSIONS = '[[namespace.queue]]\nname = "changes"\nrequires_session = true\n'


def test_a_changed_session_flag_stops_the_start_with_file_and_line(own_broker, tmp_path):
    configuration = tmp_path / "lockstep.toml"
    configuration_with(configuration, WITH_MESSAGE_SESSIONS)
    broker = own_broker(configuration=configuration)
    assert broker.stop() == 0
    configuration_with(configuration, WITH_MESSAGE_SESSIONS.replace("true", "false"))
    with pytest.raises(AssertionError, match=r"ended at start with [1-9]"):
        broker.start()
    flag_line = 1 + configuration.read_text().splitlines().index("requires_session = false")
    assert f"{configuration}:{flag_line}: " in broker.log_tail()
    assert "requires_session" in broker.log_tail()


def test_a_queue_gone_from_the_file_is_kept_with_a_warning(own_broker, tmp_path):
    configuration = tmp_path / "lockstep.toml"
    configuration_with(configuration, PLAIN, WITH_MESSAGE_SESSIONS)
    broker = own_broker(configuration=configuration)
    with broker.client() as client, client.get_queue_sender("changes") as sender:
        sender.send_messages(ServiceBusMessage("m1", session_id="s"))
    assert broker.stop() == 0
    configuration_with(configuration, PLAIN)
    broker.start()
    assert "queue 'changes'" in broker.log_tail()
    with broker.client() as client, client.get_queue_receiver("changes", session_id="s") as receiver:
        assert body(receive_one(receiver)) == "m1"


WELL_KNOWN = {"name": "RootManageSharedAccessKey", "key": "SAS_KEY_VALUE"}


def test_the_well_known_credential_opens_dev(own_broker, queue):
    broker = own_broker(options=["--dev"], certificate=False)
    with broker.client(**WELL_KNOWN) as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(ServiceBusMessage("m1"))
        with client.get_queue_receiver(queue) as receiver:
            assert body(receive_one(receiver)) == "m1"


def test_the_well_known_credential_is_refused_without_dev(broker, queue):
    with broker.client(**WELL_KNOWN, retry_total=0) as client, pytest.raises(ServiceBusAuthenticationError):
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(ServiceBusMessage("m1"))
