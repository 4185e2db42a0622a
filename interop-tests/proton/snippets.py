"""What a program has to do with message sessions when all it knows is AMQP 1.0.

`connection` is `proton.utils.BlockingConnection(url, user=policy_name, password=key, allowed_mechs="PLAIN")`.
"""

import uuid

from proton import Described, Message, symbol
from proton.reactor import Filter

# snippet: accept-by-id
FILTER = symbol("com.microsoft:session-filter")


def accept_by_id(connection, queue, id):
    """Takes the message session `id` of a queue.

    Raises LinkDetached with the condition `com.microsoft:session-cannot-be-locked` if another has it.
    """
    return connection.create_receiver(
        queue,
        credit=0,  # receive() asks for messages, once the lock is there
        name=f"{queue}-{uuid.uuid4()}",  # else every link to the queue has the same name, and takes the other's place
        options=Filter({FILTER: Described(FILTER, id)}),
    )
# end snippet


# snippet: accept-next
def accept_next(connection, queue):
    """Takes the next message session that has a message, as soon as there is one; says which one it is."""
    receiver = accept_by_id(connection, queue, None)
    return receiver, granted_id(receiver)


def granted_id(receiver):
    answer = receiver.link.remote_source.filter
    answer.rewind()
    answer.next()
    granted = answer.get_dict()[FILTER]
    return granted.value if isinstance(granted, Described) else granted
# end snippet


# snippet: renew
class Management:
    """A pair of links to `<queue>/$management`, and what is asked over it."""

    def __init__(self, connection, queue):
        node = f"{queue}/$management"
        self.reply_to = f"replies-{uuid.uuid4()}"
        self.sender = connection.create_sender(node, name=f"requests-{uuid.uuid4()}")
        self.receiver = connection.create_receiver(node, name=self.reply_to)

    def ask(self, operation, body):
        request = Message(id=str(uuid.uuid4()), reply_to=self.reply_to, properties={"operation": operation}, body=body)
        self.sender.send(request)
        answer = self.receiver.receive()
        if answer.properties["statusCode"] != 200:
            raise RequestRefused(answer.properties)
        return answer

    def renew(self, id):
        """Holds the lock for another lock duration; the answer is the new end, in milliseconds since 1970."""
        return self.ask("com.microsoft:renew-session-lock", {"session-id": id}).body["expiration"]


class RequestRefused(Exception):
    def __init__(self, properties):
        super().__init__(properties["statusDescription"])
        self.status = properties["statusCode"]
        self.condition = properties.get("errorCondition")
# end snippet


# snippet: state
def get_state(management, id):
    """The state of the message session `id`: bytes, or None. The connection must hold the message session."""
    answer = management.ask("com.microsoft:get-session-state", {"session-id": id})
    state = answer.body["session-state"]
    return None if state is None else bytes(state)  # Proton's value is a view, which ends with the answer


def set_state(management, id, state):
    """`state` is bytes, or None to remove it."""
    management.ask("com.microsoft:set-session-state", {"session-id": id, "session-state": state})
# end snippet


# snippet: send
def send(connection, queue, id, *bodies):
    """Sends bodies to the message session `id`; each call of send() returns when the broker has stored the message."""
    sender = connection.create_sender(queue, name=f"{queue}-{uuid.uuid4()}")
    for body in bodies:
        sender.send(Message(group_id=id, body=body))
    sender.close()
# end snippet
