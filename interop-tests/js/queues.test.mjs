// Sending, receiving and settling on queues without message sessions.
import assert from "node:assert/strict";
import {
  assertNothingArrives,
  bodies,
  failure,
  receive,
  receiveOne,
  sendPlain,
  suite,
  waitForTimeToPass,
} from "./harness.mjs";

const LOCK_MS = 5000;
const NO_RENEWAL = { maxAutoLockRenewalDurationInMs: 0 };
const range = (count, make = (n) => n) => Array.from({ length: count }, (_, n) => make(n));
const deadLettersOf = (client, queue) => client.createReceiver(queue, { subQueueType: "deadLetter" });

suite("queues", (scenario) => {
  scenario("send_receive_complete", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1", "m2");
    const receiver = client.createReceiver(queue);
    for (const body of ["m1", "m2"]) {
      const message = await receiveOne(receiver);
      assert.deepEqual([message.body, message.deliveryCount], [body, 0]);
      assert.ok(message.lockToken && message.lockedUntilUtc && message.enqueuedTimeUtc);
      await receiver.completeMessage(message);
    }
    assert.deepEqual(await receiver.peekMessages(10), []);
    await assertNothingArrives(receiver, 500);
  });

  scenario("several_receivers_get_each_message_once", async (s) => {
    await sendPlain(s.client, s.queue, ...range(30, (n) => `m${n}`));
    const drain = async () => {
      const receiver = s.newClient().createReceiver(s.queue);
      const texts = [];
      for (;;) {
        const messages = await receiver.receiveMessages(2, { maxWaitTimeInMs: 2000 });
        if (messages.length === 0) return texts;
        for (const message of messages) await receiver.completeMessage(message);
        texts.push(...bodies(messages));
      }
    };
    const texts = (await Promise.all(range(3, drain))).flat();
    assert.deepEqual(texts.sort(), range(30, (n) => `m${n}`).sort());
  });

  scenario("a_batch_arrives_in_order", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const batch = await sender.createMessageBatch();
    for (let n = 0; n < 500; n++) assert.ok(batch.tryAddMessage({ body: n }));
    await sender.sendMessages(batch);
    const messages = await receive(client.createReceiver(queue), 500);
    assert.deepEqual(bodies(messages), range(500));
    const first = messages[0].sequenceNumber.toNumber();
    assert.deepEqual(messages.map((m) => m.sequenceNumber.toNumber()), range(500, (n) => first + n));
  });

  scenario("a_list_of_messages_is_one_batch", async ({ client, queue }) => {
    await client.createSender(queue).sendMessages(range(3, (n) => ({ body: n, messageId: `id-${n}` })));
    const messages = await receive(client.createReceiver(queue), 3);
    assert.deepEqual(messages.map((m) => [m.body, m.messageId]), range(3, (n) => [n, `id-${n}`]));
  });

  scenario("the_sender_knows_the_size_limit", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const batch = await sender.createMessageBatch();
    assert.equal(batch.maxSizeInBytes, 262144);
    assert.ok(batch.tryAddMessage({ body: "x".repeat(130_000) }));
    assert.equal(batch.tryAddMessage({ body: "x".repeat(135_000) }), false);
    await sender.sendMessages(batch);
  });

  scenario("a_batch_over_the_limit_is_refused", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    await failure(sender.sendMessages([{ body: "x".repeat(131_072) }, { body: "y".repeat(131_072) }]));
    await sender.sendMessages({ body: "small" });
    assert.deepEqual(bodies(await client.createReceiver(queue).peekMessages(10)), ["small"]);
  });

  scenario("a_large_body_passes_and_one_over_the_limit_is_refused", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const large = Buffer.alloc(250 * 1024, "a");
    await sender.sendMessages({ body: large });
    await failure(sender.sendMessages({ body: Buffer.alloc(256 * 1024, "b") }), "MessageSizeExceeded");
    await sender.sendMessages({ body: "after" });
    const messages = await receive(client.createReceiver(queue, { skipParsingBodyAsJson: true }), 2);
    assert.ok(large.equals(messages[0].body));
    assert.equal(messages[1].body.toString(), '"after"');
  });

  scenario("sequence_numbers_start_at_one_without_gaps", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1", "m2");
    await client.createSender(queue).sendMessages([{ body: "m3" }, { body: "m4" }]);
    const messages = await receive(client.createReceiver(queue), 4);
    assert.deepEqual(messages.map((message) => message.sequenceNumber.toNumber()), [1, 2, 3, 4]);
  });

  scenario("peek_shows_messages_without_locking_them", async ({ client, queue }) => {
    const sent = range(5, (n) => `m${n + 1}`);
    await sendPlain(client, queue, ...sent);
    const receiver = client.createReceiver(queue);
    const first = await receiver.peekMessages(2);
    assert.deepEqual(bodies(first), ["m1", "m2"]);
    assert.deepEqual(bodies(await receiver.peekMessages(10)), ["m3", "m4", "m5"]);
    const fromSequenceNumber = first[1].sequenceNumber;
    assert.deepEqual(bodies(await receiver.peekMessages(10, { fromSequenceNumber })), ["m2", "m3", "m4", "m5"]);
    assert.deepEqual(await receiver.peekMessages(10, { fromSequenceNumber: fromSequenceNumber.add(10) }), []);
    const locked = await receive(receiver, 5);
    assert.deepEqual(locked.map((m) => [m.body, m.deliveryCount]), sent.map((body) => [body, 0]));
    const again = await client.createReceiver(queue).peekMessages(10, { fromSequenceNumber: first[0].sequenceNumber });
    assert.deepEqual(again.map((m) => [m.body, m.deliveryCount]), sent.map((body) => [body, 0]));
  });

  scenario("a_receive_call_returns_what_is_there", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1", "m2", "m3");
    const receiver = client.createReceiver(queue);
    const started = Date.now();
    const messages = await receiver.receiveMessages(1000, { maxWaitTimeInMs: 30_000 });
    assert.deepEqual(bodies(messages), ["m1", "m2", "m3"]);
    assert.ok(Date.now() - started < 10_000);
    for (const message of messages) await receiver.completeMessage(message);
    await sendPlain(client, queue, "m4");
    assert.equal((await receiveOne(receiver)).body, "m4");
  });

  scenario("abandon_raises_the_count", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1");
    const receiver = client.createReceiver(queue);
    for (let count = 0; count < 3; count++) {
      const message = await receiveOne(receiver);
      assert.equal(message.deliveryCount, count);
      await receiver.abandonMessage(message);
    }
    await receiver.completeMessage(await receiveOne(receiver));
  });

  scenario("abandon_keeps_changed_properties", async ({ client, queue }) => {
    await client.createSender(queue).sendMessages({ body: "m1", applicationProperties: { kept: "a", changed: 1 } });
    const receiver = client.createReceiver(queue);
    await receiver.abandonMessage(await receiveOne(receiver), { changed: 2, added: "b" });
    const message = await receiveOne(receiver);
    assert.deepEqual(message.applicationProperties, { kept: "a", changed: 2, added: "b" });
    const reason = { deadLetterReason: "why", deadLetterErrorDescription: "what", extra: true };
    await receiver.deadLetterMessage(message, reason);
    const dead = await receiveOne(deadLettersOf(client, queue));
    assert.equal(dead.applicationProperties.extra, true);
    assert.equal(dead.applicationProperties.added, "b");
    assert.equal(dead.deadLetterReason, "why");
  });

  scenario("third_failure_dead_letters", async ({ client, queue }) => {
    await sendPlain(client, queue, "poison");
    const receiver = client.createReceiver(queue);
    for (let count = 0; count < 3; count++) {
      const message = await receiveOne(receiver);
      assert.equal(message.deliveryCount, count);
      await receiver.abandonMessage(message);
    }
    assert.deepEqual(await receiver.peekMessages(10), []);
    const message = await receiveOne(deadLettersOf(client, queue));
    assert.deepEqual([message.body, message.deliveryCount], ["poison", 3]);
    assert.equal(message.deadLetterReason, "MaxDeliveryCountExceeded");
  });

  scenario("dead_letter_keeps_reason_and_description", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1", "m2");
    const receiver = client.createReceiver(queue);
    const reason = { deadLetterReason: "why", deadLetterErrorDescription: "what happened" };
    await receiver.deadLetterMessage(await receiveOne(receiver), reason);
    await receiver.deadLetterMessage(await receiveOne(receiver));
    const [withReason, without] = await receive(deadLettersOf(client, queue), 2);
    assert.deepEqual([withReason.deadLetterReason, withReason.deadLetterErrorDescription], ["why", "what happened"]);
    assert.deepEqual([without.deadLetterReason, without.deadLetterErrorDescription], [undefined, undefined]);
    assert.deepEqual([withReason.sequenceNumber.toNumber(), withReason.deliveryCount], [1, 0]);
  });

  scenario("dead_letter_queue_has_no_dead_letter_queue", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1");
    const receiver = client.createReceiver(queue);
    await receiver.deadLetterMessage(await receiveOne(receiver), {
      deadLetterReason: "first",
      deadLetterErrorDescription: "",
    });
    const deadLetters = deadLettersOf(client, queue);
    for (let n = 0; n < 12; n++) {
      const message = await receiveOne(deadLetters);
      assert.equal(message.deliveryCount, 0);
      await deadLetters.abandonMessage(message);
    }
    const message = await receiveOne(deadLetters);
    await failure(deadLetters.deadLetterMessage(message, { deadLetterReason: "2", deadLetterErrorDescription: "" }));
    const peeked = await deadLettersOf(client, queue).peekMessages(10);
    assert.deepEqual(peeked.map((one) => one.deadLetterReason), ["first"]);
  });

  scenario("sending_to_a_dead_letter_queue_is_refused", async ({ client, queue }) => {
    await failure(sendPlain(client, `${queue}/$DeadLetterQueue`, "m1"));
  });

  scenario("receive_and_delete", async ({ client, queue }) => {
    await sendPlain(client, queue, "m0", "m1", "m2", "m3");
    const receiver = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
    assert.deepEqual(bodies(await receive(receiver, 2)), ["m0", "m1"]);
    assert.deepEqual(bodies(await receiver.peekMessages(10)), ["m2", "m3"]);
  });

  scenario("settling_after_the_receiver_was_closed", async ({ client, queue }) => {
    await sendPlain(client, queue, "complete", "abandon", "dead-letter");
    const closed = client.createReceiver(queue);
    const [first, second, third] = await receive(closed, 3);
    await closed.close();
    const receiver = client.createReceiver(queue);
    await receiver.completeMessage(first);
    await receiver.abandonMessage(second, { changed: "elsewhere" });
    const reason = { deadLetterReason: "by token", deadLetterErrorDescription: "elsewhere" };
    await receiver.deadLetterMessage(third, reason);
    const message = await receiveOne(receiver);
    assert.deepEqual([message.body, message.deliveryCount], ["abandon", 1]);
    assert.deepEqual(message.applicationProperties, { changed: "elsewhere" });
    await receiver.completeMessage(message);
    assert.deepEqual(await receiver.peekMessages(10), []);
    const dead = await receiveOne(deadLettersOf(client, queue));
    assert.deepEqual([dead.deadLetterReason, dead.deadLetterErrorDescription], ["by token", "elsewhere"]);
  });

  scenario("a_message_lock_is_renewed", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1");
    const receiver = client.createReceiver(queue, NO_RENEWAL);
    const message = await receiveOne(receiver);
    let before = message.lockedUntilUtc;
    for (let n = 0; n < 3; n++) {
      await waitForTimeToPass(2500);
      const until = await receiver.renewMessageLock(message);
      assert.ok(until > before);
      before = until;
    }
    await receiver.completeMessage(message);
    assert.deepEqual(await receiver.peekMessages(10), []);
  });

  scenario("an_expired_message_lock_counts_and_redelivers", async (s) => {
    await sendPlain(s.client, s.queue, "m1");
    const receiver = s.client.createReceiver(s.queue, NO_RENEWAL);
    const message = await receiveOne(receiver);
    const waiting = s.newClient().createReceiver(s.queue, NO_RENEWAL);
    const again = await receiveOne(waiting, LOCK_MS + 5000);
    assert.deepEqual([again.body, again.deliveryCount], ["m1", 1]);
    await failure(receiver.completeMessage(message), "MessageLockLost");
    await failure(receiver.renewMessageLock(message), "MessageLockLost");
    await waiting.completeMessage(again);
  });

  scenario("an_unknown_queue_is_not_found_quickly", async (s) => {
    const client = s.newClient({ retry: {} });
    const started = Date.now();
    const unknown = "no-such-queue";
    await failure(sendPlain(client, unknown, "m1"), "MessagingEntityNotFound");
    const receiving = client.createReceiver(unknown).receiveMessages(1, { maxWaitTimeInMs: 60_000 });
    await failure(receiving, "MessagingEntityNotFound");
    await failure(client.acceptSession(unknown, "s"), "MessagingEntityNotFound");
    await failure(client.acceptNextSession(unknown), "MessagingEntityNotFound");
    assert.ok(Date.now() - started < 15_000);
  });

  scenario("a_session_id_on_a_plain_queue_is_carried", async ({ client, queue }) => {
    await client.createSender(queue).sendMessages({ body: "m1", sessionId: "carried" });
    assert.equal((await receiveOne(client.createReceiver(queue))).sessionId, "carried");
  });
});
