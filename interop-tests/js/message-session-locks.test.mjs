// The lock of a message session over time. The queues here lock for five seconds.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { bodies, failure, receive, receiveOne, send, suite, waitForTimeToPass, waitUntil } from "./harness.mjs";

const LOCK_MS = 5000;
const NO_RENEWAL = { maxAutoLockRenewalDurationInMs: 0 };

/** The receiver, or undefined while someone else holds the message session. */
async function accepted(client, queue, id) {
  try {
    return await client.acceptSession(queue, id, NO_RENEWAL);
  } catch (error) {
    if (error.code === "SessionCannotBeLocked") return undefined;
    throw error;
  }
}

/** Another process accepts "s", receives one message and is killed. */
async function holdAndGetKilled(broker, queue) {
  const program = fileURLToPath(new URL("./hold-message-session.mjs", import.meta.url));
  const stdio = ["ignore", "pipe", "inherit"];
  const holder = spawn(process.execPath, [program, broker.connectionString(), queue], { stdio });
  try {
    const [output] = await once(holder.stdout, "data");
    assert.equal(output.toString().trim(), '["m1"]');
  } finally {
    holder.kill("SIGKILL");
    if (holder.exitCode === null && holder.signalCode === null) await once(holder, "exit");
  }
}

suite("message session locks", (scenario) => {
  scenario("renewal_holds_a_message_session_past_its_lock_duration", async (s) => {
    await send(s.client, s.queue, ["s", "m1"]);
    const receiver = await s.client.acceptSession(s.queue, "s", NO_RENEWAL);
    const message = await receiveOne(receiver);
    for (let n = 0; n < 3; n++) {
      await waitForTimeToPass(2500);
      await receiver.renewSessionLock();
    }
    assert.ok(!(await accepted(s.newClient(), s.queue, "s")), "it is held");
    await receiver.completeMessage(message);
    assert.deepEqual(await receiver.peekMessages(10), []);
  });

  scenario("renewal_resets_and_never_accumulates", async ({ client, queue }) => {
    const receiver = await client.acceptSession(queue, "s", NO_RENEWAL);
    let previous = receiver.sessionLockedUntilUtc;
    for (let n = 0; n < 5; n++) {
      await waitForTimeToPass(50);
      const until = await receiver.renewSessionLock();
      assert.ok(until > previous);
      const left = until - Date.now();
      assert.ok(left > LOCK_MS - 1000 && left <= LOCK_MS, `${left} ms`);
      previous = until;
    }
  });

  scenario("automatic_renewal_holds_a_message_session", async (s) => {
    await send(s.client, s.queue, ["s", "m1"]);
    const receiver = await s.client.acceptSession(s.queue, "s");
    const message = await receiveOne(receiver);
    await waitForTimeToPass(LOCK_MS + 2000);
    assert.ok(!(await accepted(s.newClient(), s.queue, "s")), "it is held");
    await receiver.completeMessage(message);
  });

  scenario("expiry_is_seen_by_the_holder_and_counted_for_the_next", async (s) => {
    await send(s.client, s.queue, ["s", "m1"], ["s", "m2"], ["s", "m3"]);
    const holder = await s.client.acceptSession(s.queue, "s", NO_RENEWAL);
    const messages = await receive(holder, 2);
    assert.deepEqual(messages.map((message) => message.deliveryCount), [0, 0]);
    // the broker detaches the link; the SDK shows that as a closed receiver
    await waitUntil(() => holder.isClosed, LOCK_MS + 5000, "the detach at expiry");
    await failure(holder.completeMessage(messages[0]), "SessionLockLost");
    const following = await s.newClient().acceptSession(s.queue, "s", NO_RENEWAL);
    const again = await receive(following, 3);
    assert.deepEqual(bodies(again), ["m1", "m2", "m3"]);
    // the third was never handed out in the lost hold
    assert.deepEqual(again.map((message) => message.deliveryCount), [1, 1, 0]);
    for (const message of again) await following.completeMessage(message);
  });

  scenario("state_and_renewal_after_expiry_fail", async ({ client, queue }) => {
    const holder = await client.acceptSession(queue, "s", NO_RENEWAL);
    await holder.setSessionState("kept");
    await waitForTimeToPass(LOCK_MS + 1500);
    await failure(holder.renewSessionLock(), "SessionLockLost");
    await failure(holder.getSessionState(), "SessionLockLost");
    await failure(holder.setSessionState("lost"), "SessionLockLost");
    await failure(holder.receiveMessages(1, { maxWaitTimeInMs: 1000 }), "SessionLockLost");
    assert.equal(await (await client.acceptSession(queue, "s", NO_RENEWAL)).getSessionState(), "kept");
  });

  scenario("a_killed_client_keeps_its_lock_until_expiry", async (s) => {
    await send(s.client, s.queue, ["s", "m1"]);
    await holdAndGetKilled(s.broker, s.queue);
    const killed = Date.now();
    assert.ok(!(await accepted(s.client, s.queue, "s")), "it is held");
    const receiver = await waitUntil(() => accepted(s.client, s.queue, "s"), LOCK_MS + 5000, "the accept after expiry");
    assert.ok(Date.now() - killed > 1000);
    const message = await receiveOne(receiver);
    assert.deepEqual([message.body, message.deliveryCount], ["m1", 1]);
  });

  scenario("a_broken_connection_releases_its_lock_at_once_under_dev", async (s) => {
    const broker = await s.ownBroker({ options: ["--dev"] });
    const client = s.newClient({ broker });
    await send(client, s.queue, ["s", "m1"]);
    await holdAndGetKilled(broker, s.queue);
    const receiver = await waitUntil(() => accepted(client, s.queue, "s"), 3000, "the accept after the loss");
    assert.equal((await receiveOne(receiver)).body, "m1");
  });
});
