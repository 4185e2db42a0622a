// Messages that nobody took in time.
import assert from "node:assert/strict";
import Long from "long";
import {
  assertNothingArrives,
  bodies,
  failure,
  receive,
  receiveOne,
  suite,
  waitForTimeToPass,
} from "./harness.mjs";

const START = { fromSequenceNumber: Long.ONE };
const SECOND_MS = 1000;
// Expired messages are found when someone receives, and in the background within a minute.
const SWEEP_DEADLINE_MS = 75_000;
const allOf = (receiver) => receiver.peekMessages(100, START);
const deadLettersOf = (client, queue) => client.createReceiver(queue, { subQueueType: "deadLetter" });

/** (body, time to live in milliseconds or undefined) pairs, one transfer each. */
async function sendLiving(client, queue, pairs, sessionId) {
  const sender = client.createSender(queue);
  for (const [body, timeToLive] of pairs) await sender.sendMessages({ body, timeToLive, sessionId });
  await sender.close();
}

suite("time to live", (scenario) => {
  scenario("an_expired_message_is_never_delivered", async ({ client, queue }) => {
    await sendLiving(client, queue, [["short", 1000], ["long", 600_000], ["for ever", undefined]]);
    const receiver = client.createReceiver(queue);
    await waitForTimeToPass(1200);
    const messages = await receive(receiver, 2);
    assert.deepEqual(bodies(messages), ["long", "for ever"]);
    const [long, forEver] = messages;
    assert.equal(long.timeToLive, 600_000);
    assert.equal(long.expiresAtUtc.getTime(), long.enqueuedTimeUtc.getTime() + 600_000);
    assert.equal(forEver.timeToLive, undefined);
    for (const message of messages) await receiver.completeMessage(message);
    assert.deepEqual(await allOf(receiver), []);
    assert.deepEqual(await allOf(deadLettersOf(client, queue)), []);
  });

  scenario("an_expired_message_is_dead_lettered", async ({ client, queue }) => {
    await sendLiving(client, queue, [["m1", 1000], ["m2", 1000], ["later", 600_000]]);
    await waitForTimeToPass(1200);
    assert.equal((await receiveOne(client.createReceiver(queue))).body, "later");
    const deadLetters = deadLettersOf(client, queue);
    const expired = await receive(deadLetters, 2);
    assert.deepEqual(
      expired.map((m) => [m.body, m.sequenceNumber.toNumber(), m.deliveryCount, m.deadLetterReason]),
      [["m1", 1, 0, "TTLExpiredException"], ["m2", 2, 0, "TTLExpiredException"]],
    );
    // There the time does not count any more; what it was is still to be seen.
    assert.deepEqual(expired.map((m) => m.expiresAtUtc - m.enqueuedTimeUtc), [SECOND_MS, SECOND_MS]);
    await deadLetters.abandonMessage(expired[0]);
    assert.equal((await receiveOne(deadLetters)).body, "m1");
  });

  scenario("messages_expire_without_a_receiver", async ({ client, queue }) => {
    await sendLiving(client, queue, [["m1", 1000]]);
    const message = await receiveOne(deadLettersOf(client, queue), SWEEP_DEADLINE_MS);
    assert.deepEqual([message.body, message.deadLetterReason], ["m1", "TTLExpiredException"]);
  });

  scenario("the_time_to_live_of_a_queue_is_the_longest", async ({ client, queue }) => {
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await allOf(receiver), []); // connected, the clock may run
    await sendLiving(client, queue, [["none", undefined], ["longer", 600_000], ["shorter", 1000]]);
    assert.deepEqual((await allOf(receiver)).map((m) => m.timeToLive), [3000, 3000, 1000]);
    for (const message of await receive(receiver, 2)) {
      assert.equal(message.expiresAtUtc - message.enqueuedTimeUtc, 3000);
      await receiver.abandonMessage(message);
    }
    await waitForTimeToPass(3200);
    await assertNothingArrives(receiver, 500);
  });

  scenario("a_locked_message_expires_when_it_comes_back", async ({ client, queue }) => {
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await allOf(receiver), []);
    await sendLiving(client, queue, [["completed", 2000], ["abandoned", 2000]]);
    const [completed, abandoned] = await receive(receiver, 2);
    await waitForTimeToPass(2200);
    await receiver.completeMessage(completed);
    await receiver.abandonMessage(abandoned);
    await assertNothingArrives(receiver, 500);
    assert.deepEqual(await allOf(receiver), []);
    const deadLetters = deadLettersOf(client, queue);
    const message = await receiveOne(deadLetters);
    assert.deepEqual([message.body, message.deadLetterReason], ["abandoned", "TTLExpiredException"]);
    await assertNothingArrives(deadLetters, 500);
  });

  scenario("a_deferred_message_expires_when_it_is_asked_for", async ({ client, queue }) => {
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await allOf(receiver), []);
    await sendLiving(client, queue, [["m1", 2000]]);
    const message = await receiveOne(receiver);
    await receiver.deferMessage(message);
    await waitForTimeToPass(2200);
    await assertNothingArrives(receiver, 500);
    assert.deepEqual((await allOf(receiver)).map((m) => [m.body, m.state]), [["m1", "deferred"]]);
    await failure(receiver.receiveDeferredMessages(message.sequenceNumber), "MessageNotFound");
    assert.deepEqual(await allOf(receiver), []);
    assert.equal((await receiveOne(deadLettersOf(client, queue))).deadLetterReason, "TTLExpiredException");
  });

  scenario("a_scheduled_message_lives_from_when_it_is_due", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await allOf(receiver), []);
    const due = new Date(Date.now() + 2000);
    await sender.scheduleMessages({ body: "m1", timeToLive: 1000 }, due);
    const message = await receiveOne(receiver);
    assert.equal(message.timeToLive, 1000);
    assert.ok(message.enqueuedTimeUtc >= due);
    assert.equal(message.expiresAtUtc - message.enqueuedTimeUtc, 1000);
  });

  scenario("one_expired_message_expires_its_message_session", async ({ client, queue }) => {
    const receiver = await client.acceptSession(queue, "s");
    await sendLiving(client, queue, [["in flight", undefined]], "s");
    const inFlight = await receiveOne(receiver);
    await sendLiving(client, queue, [["m1", undefined], ["m2", 1000], ["m3", undefined]], "s");
    await waitForTimeToPass(1200);
    await assertNothingArrives(receiver, 500);
    await receiver.setSessionState("kept");
    await receiver.completeMessage(inFlight);
    assert.deepEqual(await receiver.peekMessages(10, START), []);
    assert.equal(await receiver.getSessionState(), "kept");
    await sendLiving(client, queue, [["new", undefined]], "s");
    assert.equal((await receiveOne(receiver)).body, "new");
    const expired = await receive(deadLettersOf(client, queue), 3);
    assert.deepEqual(
      expired.map((m) => [m.body, m.sessionId, m.deadLetterReason]),
      ["m1", "m2", "m3"].map((body) => [body, "s", "TTLExpiredException"]),
    );
  });

  scenario("messages_of_a_message_session_expire_one_by_one", async ({ client, queue }) => {
    await sendLiving(client, queue, [["m1", undefined], ["m2", 1000], ["m3", undefined]], "s");
    await waitForTimeToPass(1200);
    assert.deepEqual(bodies(await receive(await client.acceptSession(queue, "s"), 2)), ["m1", "m3"]);
    assert.equal((await receiveOne(deadLettersOf(client, queue))).body, "m2");
  });
});
