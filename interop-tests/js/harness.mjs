// What the scenarios of the JavaScript SDK share.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { ServiceBusClient } from "@azure/service-bus";
import { Broker, DELIVERY_DEADLINE_MS } from "../lib/broker_process.mjs";

export * from "../lib/broker_process.mjs";

const SCENARIO_DEADLINE_MS = 120_000;
// Scenarios mostly wait; this many of one file wait at the same time.
const SCENARIOS_AT_ONCE = 8;

/** What one scenario works with; everything it opened is closed when it ends. */
class Scenario {
  #toClose = [];

  constructor(name, broker) {
    this.queue = name;
    this.broker = broker;
    if (broker) this.client = this.newClient();
  }

  /** `retry` are the SDK's retryOptions; without retries a refusal is seen as soon as it is there. */
  newClient({ policy = "root", key, name, broker = this.broker, retry = { maxRetries: 0 } } = {}) {
    return this.track(new ServiceBusClient(broker.connectionString(policy, { key, name }), { retryOptions: retry }));
  }

  track(client) {
    this.#toClose.push(() => client.close());
    return client;
  }

  async ownBroker(options) {
    const broker = await Broker.start(options);
    this.#toClose.unshift(() => broker.dispose());
    this.broker = broker;
    return broker;
  }

  async end() {
    // Clients before brokers; a client whose broker was killed may complain, which is not the subject.
    for (const close of this.#toClose.reverse()) await close().catch(() => {});
  }
}

function writeVerdict(scenario, verdict) {
  const directory = process.env.LOCKSTEP_INTEROP_RESULTS;
  if (!directory) return;
  const line = JSON.stringify({ client: "js", scenario, verdict });
  fs.appendFileSync(path.join(directory, `js-${process.pid}.jsonl`), `${line}\n`);
}

/** A group of scenarios that share one broker: `suite("title", (scenario) => { scenario("name", async (s) => …) })`. */
export function suite(title, define) {
  describe(title, { concurrency: SCENARIOS_AT_ONCE }, () => {
    let shared;
    let failedToStart;
    before(async () => {
      // A hook that throws would leave its scenarios without a verdict.
      shared = await Broker.start().catch((error) => void (failedToStart = error));
    });
    after(() => shared?.dispose());
    define((name, body) => {
      test(name, { timeout: SCENARIO_DEADLINE_MS }, async () => {
        let scenario;
        let verdict = "fail";
        try {
          if (failedToStart) throw failedToStart;
          scenario = new Scenario(name, shared);
          await body(scenario);
          assert.ok(shared.alive(), "the broker process ended during the test");
          verdict = "pass";
        } catch (error) {
          const log = (scenario?.broker ?? shared)?.logTail(25);
          if (log !== undefined) console.error(`--- broker log of ${name}\n${log}`);
          throw error;
        } finally {
          await scenario?.end();
          writeVerdict(name, verdict);
        }
      });
    });
  });
}

/** (session id, body) pairs, one transfer each, in this order. */
export async function send(client, queue, ...pairs) {
  const sender = client.createSender(queue);
  for (const [sessionId, body] of pairs) await sender.sendMessages({ body, sessionId });
  await sender.close();
}

/** Bodies without a session id, one transfer each. */
export async function sendPlain(client, queue, ...bodies) {
  const sender = client.createSender(queue);
  for (const body of bodies) await sender.sendMessages({ body });
  await sender.close();
}

/** Exactly `count` messages, however many calls that takes. */
export async function receive(receiver, count, withinMs = DELIVERY_DEADLINE_MS) {
  const messages = [];
  const end = Date.now() + withinMs;
  while (messages.length < count) {
    const left = end - Date.now();
    if (left <= 0) assert.fail(`${messages.length} of ${count} messages in time: ${bodies(messages)}`);
    messages.push(...(await receiver.receiveMessages(count - messages.length, { maxWaitTimeInMs: left })));
  }
  return messages;
}

export const receiveOne = async (receiver, withinMs) => (await receive(receiver, 1, withinMs))[0];

export async function assertNothingArrives(receiver, milliseconds = 1000) {
  assert.deepEqual(bodies(await receiver.receiveMessages(1, { maxWaitTimeInMs: milliseconds })), []);
}

export const bodies = (messages) => messages.map((message) => message.body);

/** The error of a promise that must fail, with this ServiceBusError code if one is given. */
export async function failure(promise, code) {
  const error = await promise.then(
    () => assert.fail(`should have failed${code ? ` with ${code}` : ""}`),
    (error) => error,
  );
  if (error instanceof assert.AssertionError) throw error;
  if (code) assert.equal(error.code, code, `${error.code}: ${error.message}`);
  return error;
}
