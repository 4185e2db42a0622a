// What a program has to do with message sessions when all it knows is AMQP 1.0. `connection` is an open connection
// of rhea: `rhea.create_container().connect({ host, port, username: policyName, password: key, reconnect: false })`.
import rhea from "rhea";

// snippet: accept-by-id
const FILTER = "com.microsoft:session-filter";

/** Takes the message session `id` of a queue; fails with `com.microsoft:session-cannot-be-locked` if another has it. */
export function acceptById(connection, queue, id) {
  return opened(
    connection.open_receiver({
      source: { address: queue, filter: { [FILTER]: id } },
      credit_window: 0, // add_credit asks for messages, once the lock is there
      autoaccept: false,
    }),
  );
}

/** The link once the broker has agreed to it; a refused link is opened without an address and closed at once. */
function opened(receiver) {
  return new Promise((resolve, reject) => {
    receiver.once("receiver_open", () => receiver.source.address && resolve(receiver));
    receiver.once("receiver_close", () => reject(receiver.error ?? new Error("the broker closed the link")));
  });
}
// end snippet

// snippet: accept-next
/** Takes the next message session that has a message, as soon as there is one; says which one it is. */
export async function acceptNext(connection, queue) {
  const receiver = await acceptById(connection, queue, null);
  return { receiver, id: receiver.source.filter[FILTER] };
}
// end snippet

// snippet: renew
/** A pair of links to `<queue>/$management`, and what is asked over it. */
export class Management {
  #answers = new Map();

  constructor(connection, queue) {
    const node = `${queue}/$management`;
    this.replyTo = `replies-to-${connection.container_id}`;
    this.sender = connection.open_sender(node);
    this.receiver = connection.open_receiver({ source: node, target: this.replyTo });
    this.receiver.on("message", ({ message }) => this.#answers.get(message.correlation_id)?.(message));
  }

  async ask(operation, body) {
    const id = rhea.generate_uuid();
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    const request = { message_id: id, reply_to: this.replyTo, application_properties: { operation }, body };
    await sendable(this.sender);
    this.sender.send(request);
    const { application_properties: result, body: value } = await answer;
    this.#answers.delete(id);
    if (result.statusCode !== 200) throw Object.assign(new Error(result.statusDescription), result);
    return value;
  }

  /** Holds the lock for another lock duration; the answer is the new end. */
  async renew(id) {
    return (await this.ask("com.microsoft:renew-session-lock", { "session-id": id })).expiration;
  }
}

function sendable(sender) {
  return sender.sendable() ? undefined : new Promise((resolve) => sender.once("sendable", resolve));
}
// end snippet

// snippet: state
/** The state of the message session `id`: bytes, or null. The connection must hold the message session. */
export async function getState(management, id) {
  return (await management.ask("com.microsoft:get-session-state", { "session-id": id }))["session-state"];
}

/** `state` is a Buffer, or null to remove it. */
export async function setState(management, id, state) {
  await management.ask("com.microsoft:set-session-state", { "session-id": id, "session-state": state });
}
// end snippet

// snippet: send
/** Sends bodies to the message session `id`, and is done when the broker has stored them. */
export function send(connection, queue, id, ...bodies) {
  return new Promise((resolve, reject) => {
    const sender = connection.open_sender(queue);
    let unconfirmed = bodies.length;
    sender.once("sendable", () => bodies.forEach((body) => sender.send({ group_id: id, body })));
    sender.on("accepted", () => --unconfirmed === 0 && sender.close());
    sender.on("rejected", ({ delivery }) => reject(delivery.remote_state.error));
    sender.once("sender_close", () => (unconfirmed === 0 ? resolve() : reject(sender.error)));
  });
}
// end snippet
