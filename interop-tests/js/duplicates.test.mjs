// Messages with the id of an earlier one, on queues that detect duplicates.
import assert from "node:assert/strict";
import { assertNothingArrives, bodies, failure, receive, receiveOne, suite, waitForTimeToPass } from "./harness.mjs";

const WINDOW_MS = 10_000;
const later = () => new Date(Date.now() + 3_600_000);

/** (message id, body) pairs, one transfer each. */
async function sendWithIds(client, queue, pairs, sessionId) {
  const sender = client.createSender(queue);
  for (const [messageId, body] of pairs) await sender.sendMessages({ messageId, body, sessionId });
  await sender.close();
}

async function completeAll(receiver, count) {
  const messages = await receive(receiver, count);
  for (const message of messages) await receiver.completeMessage(message);
  return bodies(messages);
}

suite("duplicates", (scenario) => {
  scenario("a_duplicate_is_accepted_and_dropped", async ({ client, queue }) => {
    const same = [0, 1, 2, 3, 4].map((n) => ["7", n]);
    await sendWithIds(client, queue, [...same, [7, "number"], [undefined, "a"], [undefined, "b"]]);
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await completeAll(receiver, 4), [0, "number", "a", "b"]);
    await assertNothingArrives(receiver, 500);
  });

  scenario("ids_are_remembered_when_their_message_is_gone", async ({ client, queue }) => {
    const ids = ["completed", "dead-lettered", "deferred"];
    await sendWithIds(client, queue, ids.map((id) => [id, "m"]));
    const receiver = client.createReceiver(queue);
    const [completed, dead, deferred] = await receive(receiver, 3);
    await receiver.completeMessage(completed);
    await receiver.deadLetterMessage(dead);
    await receiver.deferMessage(deferred);
    await sendWithIds(client, queue, [...ids.map((id) => [id, "x"]), ["new", "after"]]);
    assert.deepEqual(await completeAll(receiver, 1), ["after"]);
  });

  scenario("ids_are_forgotten_with_their_window", async ({ client, queue }) => {
    const receiver = client.createReceiver(queue);
    await sendWithIds(client, queue, [["id", "m1"]]);
    assert.deepEqual(await completeAll(receiver, 1), ["m1"]);
    await waitForTimeToPass(WINDOW_MS / 5);
    await sendWithIds(client, queue, [["id", "within the window"]]);
    // A duplicate does not make the window longer.
    await waitForTimeToPass((WINDOW_MS * 4) / 5 + 500);
    await sendWithIds(client, queue, [["id", "m2"]]);
    assert.deepEqual(await completeAll(receiver, 1), ["m2"]);
  });

  scenario("duplicates_in_a_batch_are_dropped_one_by_one", async ({ client, queue }) => {
    await sendWithIds(client, queue, [["known", "m0"]]);
    const ids = ["a", "b", "a", "known", "c"];
    await client.createSender(queue).sendMessages(ids.map((messageId, body) => ({ messageId, body })));
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await completeAll(receiver, 4), ["m0", 0, 1, 4]);
    await assertNothingArrives(receiver, 500);
  });

  scenario("duplicates_are_detected_after_a_restart", async (s) => {
    const broker = await s.ownBroker();
    const before = s.newClient({ broker });
    await sendWithIds(before, s.queue, [["consumed", "m1"], ["waiting", "m2"]]);
    const first = before.createReceiver(s.queue);
    await first.completeMessage(await receiveOne(first));
    await broker.kill();
    await broker.start();
    const client = s.newClient({ broker });
    await sendWithIds(client, s.queue, [["consumed", "x"], ["waiting", "x"], ["new", "m3"]]);
    const receiver = client.createReceiver(s.queue);
    assert.deepEqual(await completeAll(receiver, 2), ["m2", "m3"]);
    await assertNothingArrives(receiver, 500);
  });

  scenario("duplicates_of_scheduled_messages", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    await sender.scheduleMessages({ body: "scheduled", messageId: "1" }, later());
    await sender.sendMessages({ body: "sent", messageId: "2" });
    await sender.sendMessages({ body: "x", messageId: "1" });
    await sender.sendMessages({ body: "x", messageId: "2", scheduledEnqueueTimeUtc: later() });
    const both = [{ body: "x", messageId: "2" }, { body: "also scheduled", messageId: "3" }];
    const numbers = await sender.scheduleMessages(both, later());
    assert.equal(new Set(numbers.map(String)).size, 2);
    const peeked = await client.createReceiver(queue).peekMessages(10);
    assert.deepEqual(bodies(peeked), ["scheduled", "sent", "also scheduled"]);
  });

  scenario("a_duplicate_makes_no_message_session", async (s) => {
    await sendWithIds(s.client, s.queue, [["id", "m1"]], "first");
    await sendWithIds(s.client, s.queue, [["id", "m1"]], "second");
    const receiver = await s.client.acceptNextSession(s.queue);
    assert.equal(receiver.sessionId, "first");
    const impatient = s.newClient({ retry: { maxRetries: 0, timeoutInMs: 1000 } });
    await failure(impatient.acceptNextSession(s.queue), "ServiceTimeout");
    assert.deepEqual(await completeAll(receiver, 1), ["m1"]);
  });

  scenario("on_a_partitioned_queue_a_duplicate_has_the_same_key", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    for (const partitionKey of ["a", "b", "a", undefined, undefined]) {
      await sender.sendMessages({ body: String(partitionKey), messageId: "id", partitionKey });
    }
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await completeAll(receiver, 3), ["a", "b", "undefined"]);
    await assertNothingArrives(receiver, 500);
  });
});
