// Setting messages aside and fetching them by their numbers.
import assert from "node:assert/strict";
import Long from "long";
import {
  assertNothingArrives,
  bodies,
  failure,
  receive,
  receiveOne,
  send,
  sendPlain,
  suite,
  waitForTimeToPass,
} from "./harness.mjs";

const LOCK_MS = 5000;
const START = { fromSequenceNumber: Long.ONE };
const deadLettersOf = (client, queue) => client.createReceiver(queue, { subQueueType: "deadLetter" });
const allOf = (receiver) => receiver.peekMessages(100, START);

/** Receives and defers; the sequence numbers. */
async function defer(receiver, count, properties) {
  const messages = await receive(receiver, count);
  for (const message of messages) await receiver.deferMessage(message, properties);
  return messages.map((message) => message.sequenceNumber);
}

async function only(receiver, number) {
  const messages = await receiver.receiveDeferredMessages(number);
  assert.equal(messages.length, 1);
  return messages[0];
}

suite("deferral", (scenario) => {
  scenario("deferred_messages_are_found_by_their_numbers_only", async ({ client, queue }) => {
    await sendPlain(client, queue, "m0", "m1", "m2", "m3", "m4");
    const receiver = client.createReceiver(queue);
    const numbers = await defer(receiver, 5);
    await assertNothingArrives(receiver, 500);
    const peeked = await allOf(receiver);
    assert.deepEqual(
      peeked.map((m) => [m.body, m.state, m.deliveryCount]),
      [0, 1, 2, 3, 4].map((n) => [`m${n}`, "deferred", 1]),
    );
    const asked = [numbers[3], numbers[0], numbers[4]];
    const fetched = await receiver.receiveDeferredMessages(asked);
    assert.deepEqual(fetched.map((m) => m.sequenceNumber.toString()), asked.map(String));
    for (const message of fetched) {
      assert.deepEqual([message.state, message.deliveryCount], ["deferred", 1]);
      assert.ok(message.lockToken && message.lockedUntilUtc && message.enqueuedTimeUtc);
      await receiver.completeMessage(message);
    }
    await failure(receiver.receiveDeferredMessages(asked), "MessageNotFound");
    assert.deepEqual(bodies(await allOf(receiver)), ["m1", "m2"]);
    assert.deepEqual(await receiver.receiveDeferredMessages([]), []);
  });

  scenario("fetching_by_number_is_all_or_nothing", async (s) => {
    await sendPlain(s.client, s.queue, "deferred", "active", "also deferred");
    const receiver = s.client.createReceiver(s.queue);
    const [first, second, third] = await receive(receiver, 3);
    await receiver.deferMessage(first);
    await receiver.deferMessage(third);
    await receiver.abandonMessage(second);
    const numbers = [first, second, third].map((m) => m.sequenceNumber);
    const unknown = Long.fromNumber(99);
    for (const asked of [numbers, [numbers[0], unknown], [unknown], [numbers[1]]]) {
      await failure(receiver.receiveDeferredMessages(asked), "MessageNotFound");
    }
    const elsewhere = s.newClient().createReceiver(s.queue);
    const held = await only(elsewhere, numbers[0]);
    await failure(receiver.receiveDeferredMessages([numbers[2], numbers[0]]), "MessageNotFound");
    await elsewhere.completeMessage(held);
    const message = await only(receiver, numbers[2]);
    assert.deepEqual([message.body, message.deliveryCount], ["also deferred", 1]);
    await receiver.completeMessage(message);
  });

  scenario("every_settlement_of_a_deferred_message", async ({ client, queue }) => {
    await sendPlain(client, queue, "again and again", "dead", "dead without a word");
    const receiver = client.createReceiver(queue);
    const [first, second, third] = await defer(receiver, 3, { stage: "deferred", kept: 1 });
    let message = await only(receiver, first);
    assert.deepEqual(message.applicationProperties, { stage: "deferred", kept: 1 });
    await receiver.abandonMessage(message, { stage: "abandoned" });
    message = await only(receiver, first);
    assert.deepEqual([message.state, message.deliveryCount], ["deferred", 2]);
    assert.deepEqual(message.applicationProperties, { stage: "abandoned", kept: 1 });
    await receiver.deferMessage(message, { stage: "deferred again" });
    message = await only(receiver, first);
    assert.deepEqual([message.state, message.deliveryCount], ["deferred", 3]);
    assert.deepEqual(message.applicationProperties, { stage: "deferred again", kept: 1 });
    await receiver.completeMessage(message);
    await receiver.deadLetterMessage(await only(receiver, second), {
      deadLetterReason: "why",
      deadLetterErrorDescription: "what happened",
      stage: "dead",
    });
    await receiver.deadLetterMessage(await only(receiver, third));
    assert.deepEqual(await allOf(receiver), []);
    const [dead, silent] = await receive(deadLettersOf(client, queue), 2);
    assert.deepEqual([dead.body, dead.deliveryCount, dead.state], ["dead", 1, "active"]);
    assert.deepEqual([dead.deadLetterReason, dead.deadLetterErrorDescription], ["why", "what happened"]);
    assert.equal(dead.applicationProperties.stage, "dead");
    assert.equal(silent.body, "dead without a word");
  });

  scenario("deferring_never_dead_letters", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1");
    const receiver = client.createReceiver(queue);
    const [number] = await defer(receiver, 1);
    for (let count = 1; count < 4; count++) {
      const message = await only(receiver, number);
      assert.equal(message.deliveryCount, count);
      await receiver.deferMessage(message);
    }
    assert.deepEqual((await allOf(receiver)).map((m) => m.state), ["deferred"]);
    assert.deepEqual(await allOf(deadLettersOf(client, queue)), []);
  });

  scenario("the_lock_of_a_deferred_message_is_renewed_and_runs_out", async ({ client, queue }) => {
    await sendPlain(client, queue, "kept", "lost");
    const receiver = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
    const [kept, lost] = await receiver.receiveDeferredMessages(await defer(receiver, 2));
    let before = kept.lockedUntilUtc;
    for (let n = 0; n < 2; n++) {
      await waitForTimeToPass(3000);
      const until = await receiver.renewMessageLock(kept);
      assert.ok(until > before);
      before = until;
    }
    for (const settle of ["completeMessage", "abandonMessage", "deferMessage", "deadLetterMessage", "renewMessageLock"]) {
      await failure(receiver[settle](lost), "MessageLockLost");
    }
    await failure(receiver.receiveDeferredMessages(kept.sequenceNumber), "MessageNotFound");
    const again = await only(receiver, lost.sequenceNumber);
    assert.deepEqual([again.state, again.deliveryCount], ["deferred", 2]);
    await receiver.completeMessage(again);
    await receiver.completeMessage(kept);
    assert.deepEqual(await allOf(receiver), []);
  });

  scenario("a_deferred_message_is_received_and_deleted", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1", "m2");
    const numbers = await defer(client.createReceiver(queue), 2);
    const receiver = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
    assert.equal((await only(receiver, numbers[1])).body, "m2");
    await failure(receiver.receiveDeferredMessages(numbers[1]), "MessageNotFound");
    assert.deepEqual(bodies(await allOf(receiver)), ["m1"]);
  });

  scenario("deferral_in_a_dead_letter_queue", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1");
    const receiver = client.createReceiver(queue);
    await receiver.deadLetterMessage(await receiveOne(receiver), { deadLetterReason: "first" });
    const deadLetters = deadLettersOf(client, queue);
    const [number] = await defer(deadLetters, 1);
    await assertNothingArrives(deadLetters, 500);
    await failure(receiver.receiveDeferredMessages(number), "MessageNotFound");
    const message = await only(deadLetters, number);
    assert.deepEqual([message.body, message.state, message.deliveryCount], ["m1", "deferred", 0]);
    await deadLetters.abandonMessage(message);
    await deadLetters.completeMessage(await only(deadLetters, number));
    assert.deepEqual(await allOf(deadLetters), []);
  });

  scenario("deferral_in_a_message_session", async (s) => {
    await send(s.client, s.queue, ["a", "a1"], ["a", "a2"], ["a", "a3"], ["b", "b1"]);
    let receiver = await s.client.acceptSession(s.queue, "a");
    const [first, second] = await receive(receiver, 2);
    await receiver.deferMessage(first);
    await receiver.completeMessage(second);
    assert.equal((await receiveOne(receiver)).body, "a3");
    let message = await only(receiver, first.sequenceNumber);
    assert.deepEqual([message.body, message.sessionId, message.deliveryCount], ["a1", "a", 1]);
    await receiver.abandonMessage(message);
    await receiver.close();
    const other = await s.client.acceptSession(s.queue, "b");
    await failure(other.receiveDeferredMessages(first.sequenceNumber), "MessageNotFound");
    receiver = await s.newClient().acceptSession(s.queue, "a");
    assert.deepEqual((await receiver.peekMessages(10)).map((m) => [m.body, m.state]), [["a1", "deferred"], ["a3", "active"]]);
    message = await only(receiver, first.sequenceNumber);
    assert.equal(message.deliveryCount, 2);
    await receiver.deadLetterMessage(message, { deadLetterReason: "late" });
    await receiver.completeMessage(await receiveOne(receiver));
    // The dead-letter queue knows no message sessions: a plain receiver fetches what was deferred there.
    const deadLetters = deadLettersOf(s.client, s.queue);
    const dead = await receiveOne(deadLetters);
    assert.deepEqual([dead.body, dead.sessionId, dead.deadLetterReason], ["a1", "a", "late"]);
    await deadLetters.deferMessage(dead);
    await deadLetters.completeMessage(await only(deadLetters, dead.sequenceNumber));
  });

  scenario("a_deferred_fetch_needs_the_message_session_lock", async (s) => {
    await send(s.client, s.queue, ["s", "m1"]);
    const receiver = await s.client.acceptSession(s.queue, "s", { maxAutoLockRenewalDurationInMs: 0 });
    const [number] = await defer(receiver, 1);
    const message = await only(receiver, number);
    // A receiver that opened no link asks without any message session.
    await failure(s.newClient().createReceiver(s.queue).receiveDeferredMessages(number), "SessionLockLost");
    await waitForTimeToPass(LOCK_MS + 500);
    await failure(receiver.receiveDeferredMessages(number), "SessionLockLost");
    await failure(receiver.completeMessage(message), "SessionLockLost");
    const next = await s.newClient().acceptSession(s.queue, "s");
    const again = await only(next, number);
    assert.equal(again.state, "deferred");
    await next.completeMessage(again);
  });

  scenario("deferred_messages_survive_a_restart", async (s) => {
    const broker = await s.ownBroker();
    const before = s.newClient({ broker });
    await sendPlain(before, s.queue, "m1", "m2");
    const first = before.createReceiver(s.queue);
    const numbers = await defer(first, 2, { note: "kept" });
    await first.abandonMessage(await only(first, numbers[0]));
    await only(first, numbers[1]); // locked when the broker dies
    await broker.kill();
    await broker.start();
    const receiver = s.newClient({ broker }).createReceiver(s.queue);
    await assertNothingArrives(receiver, 500);
    assert.deepEqual((await allOf(receiver)).map((m) => [m.body, m.state]), [["m1", "deferred"], ["m2", "deferred"]]);
    const message = await only(receiver, numbers[0]);
    assert.deepEqual([message.deliveryCount, message.applicationProperties], [2, { note: "kept" }]);
    await receiver.completeMessage(message);
  });
});
