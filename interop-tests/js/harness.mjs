// Starts the real broker and waits for what it does; nothing here knows how the broker works inside.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ServiceBusClient } from "@azure/service-bus";

const HERE = path.dirname(fileURLToPath(import.meta.url));

const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 20_000;
// What a message needs to reach a waiting receiver, with room for a busy machine.
export const DELIVERY_DEADLINE_MS = 15_000;
const SCENARIO_DEADLINE_MS = 120_000;
// Scenarios mostly wait; this many of one file wait at the same time.
const SCENARIOS_AT_ONCE = 8;

function home() {
  const named = process.env.LOCKSTEP_INTEROP_HOME;
  if (!named) throw new Error("LOCKSTEP_INTEROP_HOME is not set: start the suite through interop-tests/run.sh");
  return named;
}

export const policies = () => JSON.parse(fs.readFileSync(path.join(home(), "policies.json"), "utf8"));

function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(HERE, "..", "..", "target");
  const file = process.env.LOCKSTEP_BIN ?? path.join(target, "debug", "lockstep");
  if (!fs.existsSync(file)) throw new Error(`no broker binary at ${file}: build it, or name it in LOCKSTEP_BIN`);
  return file;
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer().on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Polls until `condition()` is truthy and returns that value; fails with `what` after the deadline. */
export async function waitUntil(condition, deadlineMs = DELIVERY_DEADLINE_MS, what = "the condition") {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) assert.fail(`${what} did not happen within ${deadlineMs} ms`);
    await delay(20);
  }
}

/** Lets real time pass where the passing of time is the subject (a lock that runs out, nothing arriving). */
export const waitForTimeToPass = (milliseconds) => delay(milliseconds);

/** One `lockstep serve` process with a data directory that survives a restart. */
export class Broker {
  static async start(options = {}) {
    const broker = new Broker();
    await broker.#prepare(options);
    return broker.start();
  }

  async #prepare({ configuration = path.join(home(), "lockstep.toml"), options = [], certificate = true }) {
    this.port = await freePort();
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), "lockstep-broker-"));
    this.logPath = path.join(this.directory, "broker.log");
    this.command = ["serve", "--listen", `127.0.0.1:${this.port}`, "--data-dir", path.join(this.directory, "data")];
    if (configuration) this.command.push("--config", configuration);
    if (certificate) {
      const certificates = path.join(home(), "certs");
      this.command.push("--cert", path.join(certificates, "server.pem"));
      this.command.push("--key", path.join(certificates, "server-key.pem"));
    }
    this.command.push(...options);
  }

  async start() {
    // Settings of whoever runs the tests must not reach the broker.
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("LOCKSTEP_")));
    const log = fs.openSync(this.logPath, "a");
    this.process = spawn(binary(), this.command, { stdio: ["ignore", log, log], env, cwd: this.directory });
    fs.closeSync(log);
    this.ended = new Promise((resolve) => {
      this.process.once("exit", (code, signal) => resolve(code ?? signal));
      this.process.once("error", resolve);
    });
    const end = Date.now() + START_DEADLINE_MS;
    while (!(await this.healthy())) {
      if (!this.alive()) assert.fail(`the broker ended at start\n${this.logTail()}`);
      if (Date.now() > end) assert.fail(`the broker was not healthy in time\n${this.logTail()}`);
      await delay(20);
    }
    return this;
  }

  async healthy() {
    try {
      return (await fetch(`http://127.0.0.1:${this.port}/health`, { signal: AbortSignal.timeout(2000) })).ok;
    } catch {
      return false;
    }
  }

  alive() {
    return this.process.exitCode === null && this.process.signalCode === null && this.process.pid !== undefined;
  }

  /** SIGTERM and the exit status; a broker that does not end in time is killed and fails the test. */
  async stop() {
    if (this.alive()) this.process.kill("SIGTERM");
    const late = Symbol("late");
    const status = await Promise.race([this.ended, delay(STOP_DEADLINE_MS, late, { ref: false })]);
    if (status === late) {
      await this.kill();
      assert.fail("the broker did not end in time after SIGTERM");
    }
    return status;
  }

  /** SIGKILL: what a power cut is to the process. */
  async kill() {
    if (this.alive()) this.process.kill("SIGKILL");
    await this.ended;
  }

  async dispose() {
    await this.kill();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  logTail(lines = 60) {
    return fs.readFileSync(this.logPath, "utf8").split("\n").slice(-lines).join("\n");
  }

  /** Resident memory of the process in KiB (Linux). */
  residentKib() {
    const status = fs.readFileSync(`/proc/${this.process.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)[1]);
  }

  /** Plain TCP on the broker's port; `policy` is a key of policies.json. */
  connectionString(policy = "root", { key = policies()[policy], name = policy.replace(/\.secondary$/, "") } = {}) {
    const endpoint = `Endpoint=sb://127.0.0.1:${this.port}`;
    return `${endpoint};SharedAccessKeyName=${name};SharedAccessKey=${key};UseDevelopmentEmulator=true`;
  }
}

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
