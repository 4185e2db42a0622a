// Messages that come at a time set by their sender.
import assert from "node:assert/strict";
import Long from "long";
import {
  assertNothingArrives,
  bodies,
  failure,
  receive,
  receiveOne,
  send,
  suite,
  waitUntil,
} from "./harness.mjs";

const START = { fromSequenceNumber: Long.ONE };
const HOUR_MS = 3_600_000;
const allOf = (receiver) => receiver.peekMessages(100, START);
const later = () => new Date(Date.now() + HOUR_MS);

/** A whole second, at least that far away. */
const dueIn = (milliseconds) => new Date(Math.ceil((Date.now() + milliseconds) / 1000) * 1000);

const floor = (date) => Math.floor(date.getTime() / 1000);

suite("scheduling", (scenario) => {
  scenario("a_scheduled_message_comes_when_it_is_due", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await allOf(receiver), []); // connected, the clock may run
    const due = dueIn(4000);
    const message = { body: "m1", messageId: "id", applicationProperties: { key: "value" } };
    const [number] = await sender.scheduleMessages(message, due);
    const [peeked] = await allOf(receiver);
    assert.deepEqual([peeked.body, peeked.state], ["m1", "scheduled"]);
    assert.ok(peeked.sequenceNumber.equals(number));
    assert.deepEqual(peeked.scheduledEnqueueTimeUtc, due);
    await assertNothingArrives(receiver, 500);
    const received = await receiveOne(receiver);
    assert.ok(Date.now() >= due.getTime());
    assert.deepEqual([received.body, received.messageId, received.deliveryCount], ["m1", "id", 0]);
    assert.equal(floor(received.enqueuedTimeUtc), floor(due));
    assert.deepEqual(received.scheduledEnqueueTimeUtc, due);
    assert.deepEqual(received.applicationProperties, { key: "value" });
    assert.equal(received.state, "scheduled");
    assert.ok(received.sequenceNumber.greaterThan(number));
    await failure(sender.cancelScheduledMessages(number), "MessageNotFound");
    await receiver.completeMessage(received);
    assert.deepEqual(await allOf(receiver), []);
  });

  scenario("every_scheduled_message_has_a_number", async ({ client, queue }) => {
    const due = later();
    const sender = client.createSender(queue);
    const numbers = await sender.scheduleMessages([0, 1, 2, 3, 4].map((n) => ({ body: n })), due);
    const peeked = await allOf(client.createReceiver(queue));
    assert.deepEqual(peeked.map((m) => m.sequenceNumber.toString()), numbers.map(String));
    assert.deepEqual(bodies(peeked), [0, 1, 2, 3, 4]);
    const requests = Array.from({ length: 10 }, () => sender.scheduleMessages([{ body: "x" }, { body: "y" }], due));
    const all = [...numbers, ...(await Promise.all(requests)).flat()].map(String);
    assert.equal(new Set(all).size, 25);
    assert.deepEqual(await sender.scheduleMessages([], due), []);
    await sender.cancelScheduledMessages([]);
  });

  scenario("scheduling_by_annotation", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await allOf(receiver), []);
    const due = dueIn(4000);
    await sender.sendMessages({ body: "single", scheduledEnqueueTimeUtc: due });
    const batch = await sender.createMessageBatch();
    assert.ok(batch.tryAddMessage({ body: "at once" }));
    assert.ok(batch.tryAddMessage({ body: "of a batch", scheduledEnqueueTimeUtc: due }));
    await sender.sendMessages(batch);
    assert.equal((await receiveOne(receiver)).body, "at once");
    const messages = await receive(receiver, 2);
    assert.deepEqual(bodies(messages), ["single", "of a batch"]);
    for (const message of messages) {
      assert.deepEqual(message.scheduledEnqueueTimeUtc, due);
      assert.ok(message.enqueuedTimeUtc >= due);
    }
  });

  scenario("cancelled_messages_never_come", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const receiver = client.createReceiver(queue);
    assert.deepEqual(await allOf(receiver), []);
    const due = dueIn(6000);
    const [one, two, three] = await sender.scheduleMessages([{ body: 1 }, { body: 2 }, { body: 3 }], due);
    await sender.sendMessages({ body: "active" });
    const active = await receiveOne(receiver);
    const unknown = Long.fromNumber(99);
    for (const asked of [[one, unknown], [active.sequenceNumber], [two, unknown, three]]) {
      await failure(sender.cancelScheduledMessages(asked), "MessageNotFound");
    }
    await receiver.completeMessage(active);
    await sender.cancelScheduledMessages([three, one]);
    assert.deepEqual(bodies(await allOf(receiver)), [2]);
    await failure(sender.cancelScheduledMessages(one), "MessageNotFound");
    assert.equal((await receiveOne(receiver)).body, 2);
    await assertNothingArrives(receiver, 1000);
  });

  scenario("scheduled_messages_come_in_order_of_their_time", async ({ client, queue }) => {
    const start = dueIn(3000).getTime();
    const at = (seconds) => new Date(start + seconds * 1000);
    const sender = client.createSender(queue);
    for (const [body, seconds] of [["third", 2], ["first", 0], ["second", 1]]) {
      await sender.scheduleMessages({ body }, at(seconds));
    }
    await sender.scheduleMessages([{ body: "fourth" }, { body: "fifth" }], at(3));
    const messages = await receive(client.createReceiver(queue), 5);
    assert.deepEqual(bodies(messages), ["first", "second", "third", "fourth", "fifth"]);
    const numbers = messages.map((m) => m.sequenceNumber.toNumber());
    assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
  });

  scenario("a_time_that_has_come_means_now", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const [number] = await sender.scheduleMessages({ body: "operation" }, new Date(Date.now() - HOUR_MS));
    assert.ok(number.greaterThan(0));
    await sender.sendMessages({ body: "annotation", scheduledEnqueueTimeUtc: new Date() });
    const messages = await receive(client.createReceiver(queue), 2);
    assert.deepEqual(bodies(messages), ["operation", "annotation"]);
    assert.ok(messages[0].sequenceNumber.equals(number));
  });

  scenario("scheduled_messages_survive_a_restart", async (s) => {
    const broker = await s.ownBroker();
    const due = dueIn(1000);
    const before = s.newClient({ broker }).createSender(s.queue);
    const soon = await before.scheduleMessages({ body: "soon" }, due);
    const waiting = await before.scheduleMessages([{ body: "later" }, { body: "latest" }], later());
    await broker.kill();
    await waitUntil(() => Date.now() > due.getTime(), undefined, "the due time");
    await broker.start();
    const client = s.newClient({ broker });
    const receiver = client.createReceiver(s.queue);
    const message = await receiveOne(receiver);
    assert.equal(message.body, "soon");
    assert.deepEqual(message.scheduledEnqueueTimeUtc, due);
    await receiver.completeMessage(message);
    const peeked = await allOf(receiver);
    assert.deepEqual(peeked.map((m) => [m.body, m.state]), [["later", "scheduled"], ["latest", "scheduled"]]);
    const sender = client.createSender(s.queue);
    await failure(sender.cancelScheduledMessages(soon), "MessageNotFound");
    await sender.cancelScheduledMessages(waiting);
    assert.deepEqual(await allOf(receiver), []);
  });

  scenario("a_message_session_is_eligible_when_its_message_is_due", async (s) => {
    const holder = await s.client.acceptSession(s.queue, "held");
    const due = dueIn(8000);
    const sender = s.client.createSender(s.queue);
    const messages = [{ body: "h1", sessionId: "held" }, { body: "f1", sessionId: "free" }];
    await sender.scheduleMessages(messages, due);
    await sender.sendMessages({ body: "h2", sessionId: "held", scheduledEnqueueTimeUtc: due });
    const peeked = await holder.peekMessages(10);
    assert.deepEqual(peeked.map((m) => [m.body, m.state]), [["h1", "scheduled"], ["h2", "scheduled"]]);
    // No message session has anything to receive before the time.
    const impatient = s.newClient({ retry: { maxRetries: 0, timeoutInMs: 1000 } });
    await failure(impatient.acceptNextSession(s.queue), "ServiceTimeout");
    assert.ok(Date.now() < due.getTime(), "the machine is too slow for this scenario");
    const receiver = await s.client.acceptNextSession(s.queue);
    assert.ok(Date.now() >= due.getTime());
    assert.equal(receiver.sessionId, "free");
    assert.equal((await receiveOne(receiver)).body, "f1");
    assert.deepEqual(bodies(await receive(holder, 2)), ["h1", "h2"]);
  });

  scenario("an_oversize_scheduled_message_is_refused", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const large = { body: "x".repeat(300_000) };
    await failure(sender.scheduleMessages(large, later()), "MessageSizeExceeded");
    await failure(sender.scheduleMessages([{ body: "small" }, large], later()), "MessageSizeExceeded");
    assert.equal((await sender.scheduleMessages({ body: "after" }, later())).length, 1);
    assert.deepEqual(bodies(await allOf(client.createReceiver(queue))), ["after"]);
  });

  scenario("received_messages_are_scheduled_again", async ({ client, queue }) => {
    const due = dueIn(1000);
    const sender = client.createSender(queue);
    const receiver = client.createReceiver(queue);
    await sender.sendMessages([{ body: "m1", subject: "kept" }, { body: "m2", subject: "kept" }]);
    const received = await receive(receiver, 2);
    for (const message of received) await receiver.completeMessage(message);
    assert.equal((await sender.scheduleMessages(received, due)).length, 2);
    const again = await receive(receiver, 2);
    assert.deepEqual(again.map((m) => [m.body, m.subject, m.deliveryCount]), [["m1", "kept", 0], ["m2", "kept", 0]]);
    for (const message of again) await receiver.completeMessage(message);
  });

  scenario("peek_shows_all_states_across_message_sessions", async (s) => {
    const sender = s.client.createSender(s.queue);
    await send(s.client, s.queue, ["a", "deferred"], ["b", "locked"]);
    await sender.scheduleMessages({ body: "scheduled", sessionId: "c" }, later());
    await send(s.client, s.queue, ["a", "active"]);
    const first = await s.client.acceptSession(s.queue, "a");
    await first.deferMessage(await receiveOne(first));
    await receiveOne(await s.client.acceptSession(s.queue, "b"));
    const peeked = await s.newClient().createReceiver(s.queue).peekMessages(10);
    assert.deepEqual(
      peeked.map((m) => [m.body, m.sessionId, m.state]),
      [["deferred", "a", "deferred"], ["locked", "b", "active"], ["scheduled", "c", "scheduled"], ["active", "a", "active"]],
    );
    const numbers = peeked.map((m) => m.sequenceNumber.toNumber());
    assert.deepEqual(numbers, [1, 2, 3, 4]);
    const from = { fromSequenceNumber: Long.fromNumber(3) };
    assert.equal((await s.newClient().createReceiver(s.queue).peekMessages(1, from))[0].body, "scheduled");
  });
});
