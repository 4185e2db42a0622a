// Promises of rhea's events, and what the scenarios of rhea share.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import rhea from "rhea";
import { DELIVERY_DEADLINE_MS, policies, waitUntil as waitUntilFor } from "../lib/broker_process.mjs";
import { Management } from "./snippets.mjs";

export { Broker, certificate, policies, waitForTimeToPass } from "../lib/broker_process.mjs";

const SCENARIO_DEADLINE_MS = 120_000;
const TOKEN_LIFETIME_S = 600;

export const waitUntil = (condition, what) => waitUntilFor(condition, DELIVERY_DEADLINE_MS, what);

/** A promise that fails with `what` instead of hanging. */
function inTime(promise, what, milliseconds = DELIVERY_DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new assert.AssertionError({ message: `${what}: not in time` })), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A shared access signature for `resource`, as Service Bus defines it. */
export function sasToken(resource, policy = "root") {
  const audience = encodeURIComponent(resource);
  const expiry = Math.floor(Date.now() / 1000) + TOKEN_LIFETIME_S;
  const signature = crypto.createHmac("sha256", policies()[policy]).update(`${audience}\n${expiry}`).digest("base64");
  return `SharedAccessSignature sr=${audience}&sig=${encodeURIComponent(signature)}&se=${expiry}&skn=${policy}`;
}

/** A receiver and what arrived on it. */
export class Inbox {
  waiting = [];

  constructor(receiver) {
    this.receiver = receiver;
    receiver.on("message", (context) => this.waiting.push(context));
  }

  /** Asks for `count` deliveries and waits for them. */
  async receive(count = 1) {
    this.receiver.add_credit(count);
    await this.arrived(count);
    return this.waiting.splice(0, count);
  }

  async receiveOne() {
    return (await this.receive(1))[0];
  }

  arrived(count) {
    return waitUntil(() => this.waiting.length >= count, `the arrival of ${count} deliveries`);
  }

  /** Uses up the credit; the broker's answer means that nothing else is there. */
  async drain() {
    const drained = new Promise((resolve) => this.receiver.once("receiver_drained", resolve));
    this.receiver.drain_credit();
    await inTime(drained, "the answer to a drain");
    this.receiver.drain = false;
  }

  /** Whether the queue has a message for this link, by a credit and a drain. */
  async isEmpty() {
    this.receiver.add_credit(1);
    await this.drain();
    return this.waiting.length === 0;
  }

  close() {
    const closed = new Promise((resolve) => this.receiver.once("receiver_close", resolve));
    this.receiver.close();
    return inTime(closed, "the answer to a detach");
  }
}

/** What one scenario works with; its connections are closed when it ends. */
class Scenario {
  #connections = [];

  constructor(name, broker) {
    this.queue = name;
    this.broker = broker;
  }

  /** `options` are rhea's own. */
  async connect(options = {}) {
    const container = rhea.create_container();
    const all = {
      host: "127.0.0.1",
      port: this.broker.port,
      username: "root",
      password: policies().root,
      reconnect: false,
      ...options,
    };
    const connection = container.connect(all);
    this.#connections.push(connection);
    const open = new Promise((resolve, reject) => {
      connection.once("connection_open", resolve);
      connection.once("connection_error", () => reject(connection.error ?? connection.get_error()));
      connection.once("disconnected", ({ error }) => reject(error ?? new Error("disconnected")));
    });
    await inTime(open, "opening a connection");
    return connection;
  }

  /** A link that the broker agreed to, or its refusal. */
  async openSender(connection, options = this.queue) {
    const sender = connection.open_sender(options);
    const open = new Promise((resolve, reject) => {
      sender.once("sender_open", () => sender.target.address && resolve());
      sender.once("sender_close", () => reject(sender.error));
    });
    await inTime(open, "attaching a sender");
    return sender;
  }

  async openInbox(connection, options = {}) {
    const { source = { address: this.queue }, ...others } = options;
    const receiver = connection.open_receiver({ source, credit_window: 0, autoaccept: false, ...others });
    const inbox = new Inbox(receiver);
    const open = new Promise((resolve, reject) => {
      receiver.once("receiver_open", () => receiver.source.address && resolve());
      receiver.once("receiver_close", () => reject(receiver.error));
    });
    await inTime(open, "attaching a receiver");
    return inbox;
  }

  /** Sends one after the other and returns the outcomes: "accepted", or the error of a rejection. */
  async send(connection, messages, options = this.queue) {
    const sender = await this.openSender(connection, options);
    const outcomes = [];
    sender.on("accepted", () => outcomes.push("accepted"));
    sender.on("rejected", ({ delivery }) => outcomes.push(delivery.remote_state.error));
    for (const message of messages) sender.send(message);
    await waitUntil(() => outcomes.length === messages.length, "the outcome of every send");
    sender.close();
    return outcomes;
  }

  /** Sends, and everything must be accepted. */
  async put(connection, ...messages) {
    const outcomes = await this.send(connection, messages);
    assert.deepEqual(outcomes, messages.map(() => "accepted"));
  }

  management(connection, queue = this.queue) {
    return new Management(connection, queue);
  }

  /** The bodies of what `com.microsoft:peek-message` shows, in order. */
  async peek(management, others = {}) {
    const range = { "from-sequence-number": rhea.types.wrap_long(1), "message-count": rhea.types.wrap_int(100) };
    const shown = await management.ask("com.microsoft:peek-message", { ...range, ...others }).catch((error) => {
      if (error.statusCode !== 204) throw error;
      return { messages: [] };
    });
    return shown.messages.map(({ message }) => rhea.message.decode(message));
  }

  async end() {
    for (const connection of this.#connections) {
      if (!connection.is_open()) continue;
      const closed = new Promise((resolve) => {
        connection.once("connection_close", resolve);
        connection.once("disconnected", resolve);
      });
      connection.close();
      await inTime(closed, "the answer to a close");
    }
  }
}

function writeVerdict(scenario, verdict) {
  const directory = process.env.LOCKSTEP_INTEROP_RESULTS;
  if (!directory) return;
  const line = JSON.stringify({ client: "rhea", scenario, verdict });
  fs.appendFileSync(path.join(directory, `rhea-${process.pid}.jsonl`), `${line}\n`);
}

/** `broker` is a function, since tests are defined before the broker is started. */
export function scenarios(broker) {
  return (name, body) =>
    test(name, { timeout: SCENARIO_DEADLINE_MS }, async () => {
      let verdict = "fail";
      let scenario;
      try {
        scenario = new Scenario(name, await broker());
        await body(scenario);
        await scenario.end();
        assert.ok(scenario.broker.alive(), "the broker process ended during the test");
        verdict = "pass";
      } catch (error) {
        if (scenario) console.error(`--- broker log of ${name}\n${scenario.broker.logTail(25)}`);
        throw error;
      } finally {
        await scenario?.end().catch(() => {});
        writeVerdict(name, verdict);
      }
    });
}

/** The error of a promise that must fail, with this condition. */
export async function failure(promise, condition) {
  const error = await promise.then(
    () => assert.fail(`should have failed with ${condition}`),
    (error) => error,
  );
  if (error instanceof assert.AssertionError) throw error;
  const found = error.condition ?? error.errorCondition;
  assert.equal(found, condition, `${found}: ${error.description ?? error.message}`);
  return error;
}

/** Settlements of one turn go out together, and rhea gives neighbours the outcome of the first: one turn each. */
export async function settle(context, act) {
  act(context.delivery);
  await new Promise((resolve) => setImmediate(resolve));
}

export const bodies = (contexts) => contexts.map(({ message }) => message.body);
export const annotation = ({ message }, name) => message.message_annotations[`x-opt-${name}`];
