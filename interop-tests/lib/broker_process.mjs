// Starts the real broker and waits for what it does; nothing here knows how the broker works inside.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));

const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 20_000;
// What a message needs to reach a waiting receiver, with room for a busy machine.
export const DELIVERY_DEADLINE_MS = 15_000;

function home() {
  const named = process.env.LOCKSTEP_INTEROP_HOME;
  if (!named) throw new Error("LOCKSTEP_INTEROP_HOME is not set: start the suite through interop-tests/run.sh");
  return named;
}

export const policies = () => JSON.parse(fs.readFileSync(path.join(home(), "policies.json"), "utf8"));
export const certificate = (name) => fs.readFileSync(path.join(home(), "certs", name));

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
