// Sizes, quotas, states and the other properties that limit what a queue does.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import Long from "long";
import { bodies, failure, receive, receiveOne, sendPlain, suite, waitForTimeToPass, waitUntil } from "./harness.mjs";

const MIB = 1024 * 1024;
const START = { fromSequenceNumber: Long.ONE };
const allOf = (receiver) => receiver.peekMessages(100, START);
const deadLettersOf = (client, queue) => client.createReceiver(queue, { subQueueType: "deadLetter" });
const range = (count, make = (n) => n) => Array.from({ length: count }, (_, n) => make(n));

/** A changed copy of the configuration. */
function configuration(queue, change) {
  const home = process.env.LOCKSTEP_INTEROP_HOME;
  const file = path.join(home, `js-${queue}.toml`);
  fs.writeFileSync(file, change(fs.readFileSync(path.join(home, "lockstep.toml"), "utf8")));
  return file;
}

/** One in which that queue has another status. */
function withStatus(queue, status) {
  const name = `name = "${queue}"\n`;
  return configuration(queue, (text) => {
    assert.ok(text.includes(name));
    return text.replace(name, `${name}status = "${status}"\n`);
  });
}

suite("queue properties", (scenario) => {
  scenario("a_queue_of_one_mib_takes_messages_and_batches_of_that", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const batch = await sender.createMessageBatch();
    assert.equal(batch.maxSizeInBytes, MIB);
    for (let n = 0; n < 3; n++) assert.ok(batch.tryAddMessage({ body: Buffer.alloc(340 * 1024, "b") }));
    assert.equal(batch.tryAddMessage({ body: Buffer.alloc(10 * 1024, "b") }), false);
    await sender.sendMessages(batch);
    await sender.sendMessages({ body: Buffer.alloc(MIB - 1024, "a") });
    await failure(sender.sendMessages({ body: Buffer.alloc(MIB, "a") }), "MessageSizeExceeded");
    const messages = await receive(client.createReceiver(queue, { skipParsingBodyAsJson: true }), 4);
    assert.deepEqual(messages.map((m) => m.body.length), [...range(3, () => 340 * 1024), MIB - 1024]);
  });

  scenario("a_queue_of_100_mib_takes_batches_of_one", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const large = Buffer.alloc(12 * MIB, "large");
    await sender.sendMessages({ body: large });
    const receiver = client.createReceiver(queue, { skipParsingBodyAsJson: true });
    const message = await receiveOne(receiver, 60_000);
    assert.ok(large.equals(message.body));
    await receiver.deferMessage(message);
    const [fetched] = await receiver.receiveDeferredMessages(message.sequenceNumber);
    assert.ok(large.equals(fetched.body));
    await receiver.completeMessage(fetched);
    const half = { body: Buffer.alloc(600 * 1024) };
    await failure(sender.sendMessages([half, half]), "MessageSizeExceeded");
    assert.deepEqual(await allOf(receiver), []);
  });

  scenario("a_property_over_its_limit_is_refused", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const many = Object.fromEntries(range(9, (n) => [`k${n}`, "v".repeat(8000)]));
    for (const applicationProperties of [{ k: "v".repeat(33_000) }, many]) {
      await failure(sender.sendMessages({ body: "x", applicationProperties }));
    }
    await sender.sendMessages({ body: "m1", applicationProperties: { k: "v".repeat(32_000) } });
    assert.deepEqual(bodies(await allOf(client.createReceiver(queue))), ["m1"]);
  });

  scenario("one_refused_message_fails_its_batch", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const tooMuch = { body: "m2", applicationProperties: { k: "v".repeat(33_000) } };
    await failure(sender.sendMessages([{ body: "m1" }, tooMuch, { body: "m3" }]));
    await sender.sendMessages({ body: "after" });
    const [message, ...more] = await allOf(client.createReceiver(queue));
    assert.deepEqual([message.body, message.sequenceNumber.toNumber(), more], ["after", 1, []]);
  });

  scenario("a_full_queue_refuses_until_there_is_room", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    let taken = 0;
    const fill = async () => {
      for (; taken < 20; taken++) await sender.sendMessages({ body: "x".repeat(200_000) });
    };
    await failure(fill(), "QuotaExceeded");
    assert.ok(taken === 5 || taken === 6, String(taken));
    const receiver = client.createReceiver(queue);
    for (const message of await receive(receiver, taken)) await receiver.deadLetterMessage(message);
    // What is in the dead-letter queue counts.
    await failure(sender.sendMessages({ body: "still too much" }), "QuotaExceeded");
    await failure(sender.scheduleMessages({ body: "x" }, new Date(Date.now() + 3_600_000)), "QuotaExceeded");
    const deadLetters = deadLettersOf(client, queue);
    for (const message of await receive(deadLetters, taken)) await deadLetters.completeMessage(message);
    await sender.sendMessages({ body: "room again" });
    assert.equal((await receiveOne(receiver)).body, "room again");
  });

  scenario("a_disabled_queue_says_so", async (s) => {
    const broker = await s.ownBroker({ configuration: withStatus(s.queue, "Active") });
    await sendPlain(s.newClient({ broker }), s.queue, "m1", "m2");
    for (const [status, sends, receives] of [
      ["SendDisabled", false, true],
      ["ReceiveDisabled", true, false],
      ["Disabled", false, false],
      ["Active", true, true],
    ]) {
      withStatus(s.queue, status);
      await broker.kill();
      await broker.start();
      const client = s.newClient({ broker });
      const sent = sendPlain(client, s.queue, status);
      await (sends ? sent : failure(sent, "MessagingEntityDisabled"));
      const receiver = client.createReceiver(s.queue);
      const received = receiver.receiveMessages(1, { maxWaitTimeInMs: 5000 });
      if (receives) await receiver.completeMessage((await received)[0]);
      else await failure(received, "MessagingEntityDisabled");
    }
    const left = await allOf(s.newClient({ broker }).createReceiver(s.queue));
    assert.deepEqual(bodies(left), ["ReceiveDisabled", "Active"]);
  });

  scenario("clients_go_on_when_their_idle_links_were_detached", async (s) => {
    // Links that are not used for a second; those that hold something are never idle.
    const limits = "[limits]\nlink_idle_timeout_s = 1\nconnection_without_links_timeout_s = 1\n";
    const broker = await s.ownBroker({ configuration: configuration(s.queue, (text) => limits + text) });
    const client = s.newClient({ broker, retry: {} });
    const sender = client.createSender(s.queue);
    const holder = await client.acceptSession(s.queue, "held");
    await sender.sendMessages({ body: "m1", sessionId: "held" });
    const held = await receiveOne(holder);
    for (const body of [0, 1]) {
      await waitUntil(() => !sender._sender.isOpen(), undefined, "the detach of the idle sender");
      await waitForTimeToPass(1500);
      await sender.sendMessages({ body, sessionId: "other" });
    }
    await holder.completeMessage(held);
    await sender.sendMessages({ body: "m2", sessionId: "held" });
    assert.equal((await receiveOne(holder)).body, "m2");
    assert.deepEqual(bodies(await receive(await client.acceptSession(s.queue, "other"), 2)), [0, 1]);
  });

  scenario("keys_of_a_partitioned_queue", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    await sender.sendMessages({ body: "keyed", partitionKey: "k" });
    await sender.sendMessages(range(2, (n) => ({ body: n, partitionKey: "k" })));
    await sender.sendMessages([{ body: "none" }, { body: "at all" }]);
    await failure(sender.sendMessages([{ body: "x", partitionKey: "a" }, { body: "y", partitionKey: "b" }]));
    const messages = await receive(client.createReceiver(queue), 5);
    assert.deepEqual(messages.map((m) => m.partitionKey), ["k", "k", "k", undefined, undefined]);
    assert.deepEqual(messages.map((m) => m.sequenceNumber.toNumber()), [1, 2, 3, 4, 5]);
  });

  scenario("a_batch_to_a_partitioned_queue_is_of_one_message_session", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    await sender.sendMessages(range(2, (n) => ({ body: n, sessionId: "a" })));
    await failure(sender.sendMessages([{ body: "x", sessionId: "a" }, { body: "y", sessionId: "b" }]));
    assert.deepEqual(bodies(await receive(await client.acceptSession(queue, "a"), 2)), [0, 1]);
  });
});
