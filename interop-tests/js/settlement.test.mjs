// What becomes of deliveries: on other links, after losses, too late.
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
  waitUntil,
} from "./harness.mjs";

const LOCK_MS = 5000;
const START = { fromSequenceNumber: Long.ONE };
const NO_RENEWAL = { maxAutoLockRenewalDurationInMs: 0 };
const SETTLE = ["completeMessage", "abandonMessage", "deferMessage", "deadLetterMessage"];
const allOf = (receiver) => receiver.peekMessages(100, START);
const deadLettersOf = (client, queue) => client.createReceiver(queue, { subQueueType: "deadLetter" });
const range = (count, make = (n) => n) => Array.from({ length: count }, (_, n) => make(n));

/** What the loss of the network is to the client; resolves when it has noticed. */
function breakConnection(client) {
  const { connection } = client._connectionContext;
  connection._connection.socket.destroy(new Error("lost"));
  return waitUntil(() => !connection.isOpen(), undefined, "the client's notice of the loss");
}

suite("settlement", (scenario) => {
  scenario("messages_are_settled_after_their_connection_broke", async (s) => {
    await sendPlain(s.client, s.queue, "completed", "abandoned", "dead-lettered", "deferred", "renewed");
    const client = s.newClient({ retry: {} });
    const receiver = client.createReceiver(s.queue, NO_RENEWAL);
    const [completed, abandoned, deadLettered, deferred, renewed] = await receive(receiver, 5);
    await breakConnection(client);
    await receiver.completeMessage(completed);
    await receiver.abandonMessage(abandoned, { after: "the loss" });
    await receiver.deadLetterMessage(deadLettered, { deadLetterReason: "after the loss" });
    await receiver.deferMessage(deferred, { after: "the loss" });
    const before = renewed.lockedUntilUtc;
    assert.ok((await receiver.renewMessageLock(renewed)) > before);
    await receiver.completeMessage(renewed);
    const left = await allOf(receiver);
    assert.deepEqual(
      left.map((m) => [m.body, m.state, m.deliveryCount, m.applicationProperties]),
      [["abandoned", "active", 1, { after: "the loss" }], ["deferred", "deferred", 1, { after: "the loss" }]],
    );
    const dead = await receiveOne(deadLettersOf(s.client, s.queue));
    assert.equal(dead.deadLetterReason, "after the loss");
  });

  scenario("every_way_to_settle_fails_once_the_lock_is_lost", async ({ client, queue }) => {
    const receiver = client.createReceiver(queue, NO_RENEWAL);
    await sendPlain(client, queue, ...range(5, (n) => `m${n}`));
    const messages = await receive(receiver, 5);
    await waitForTimeToPass(LOCK_MS + 500);
    for (const [n, settle] of [...SETTLE, "renewMessageLock"].entries()) {
      await failure(receiver[settle](messages[n]), "MessageLockLost");
    }
    const again = await receive(client.createReceiver(queue), 5);
    assert.deepEqual(again.map((m) => [m.body, m.deliveryCount]), range(5, (n) => [`m${n}`, 1]));
  });

  scenario("settling_in_a_lost_message_session_fails", async (s) => {
    await send(s.client, s.queue, ...range(4, (n) => ["s", `m${n}`]));
    const receiver = await s.client.acceptSession(s.queue, "s", NO_RENEWAL);
    const messages = await receive(receiver, 4);
    await waitForTimeToPass(LOCK_MS + 500);
    const next = await s.newClient().acceptSession(s.queue, "s");
    const again = await receive(next, 4);
    assert.deepEqual(again.map((m) => m.deliveryCount), [1, 1, 1, 1]);
    for (const [n, settle] of SETTLE.entries()) await failure(receiver[settle](messages[n]), "SessionLockLost");
    await failure(receiver.renewSessionLock(), "SessionLockLost");
    await failure(receiver.getSessionState(), "SessionLockLost");
    for (const message of again) await next.completeMessage(message);
  });

  scenario("settlement_changes_properties", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    for (const body of ["abandoned", "deferred", "dead"]) {
      await sender.sendMessages({ body, applicationProperties: { stage: "sent", kept: 1 } });
    }
    const receiver = client.createReceiver(queue);
    const [abandoned, deferred, dead] = await receive(receiver, 3);
    await receiver.abandonMessage(abandoned, { stage: "abandoned", number: 5, flag: true });
    await receiver.deferMessage(deferred, { stage: "deferred" });
    const reason = { deadLetterReason: "why", deadLetterErrorDescription: "what", stage: "dead" };
    await receiver.deadLetterMessage(dead, reason);
    const again = await receiveOne(receiver);
    assert.deepEqual(again.applicationProperties, { stage: "abandoned", kept: 1, number: 5, flag: true });
    const [fetched] = await receiver.receiveDeferredMessages(deferred.sequenceNumber);
    assert.deepEqual(fetched.applicationProperties, { stage: "deferred", kept: 1 });
    const message = await receiveOne(deadLettersOf(client, queue));
    assert.deepEqual(message.applicationProperties, {
      stage: "dead",
      kept: 1,
      DeadLetterReason: "why",
      DeadLetterErrorDescription: "what",
    });
  });

  scenario("an_abandoned_message_waits_for_its_delay", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1", "m2");
    const receiver = client.createReceiver(queue);
    const [first, second] = await receive(receiver, 2);
    await receiver.abandonMessage(first); // after the delay of the queue
    const at = Date.now();
    await receiver.abandonMessage(second, { "x-opt-redeliver-after": 200 }); // after its own
    const sooner = await receiveOne(receiver);
    assert.deepEqual([sooner.body, sooner.deliveryCount], ["m2", 1]);
    assert.equal(sooner.applicationProperties, undefined);
    const later = await receiveOne(receiver);
    assert.deepEqual([later.body, later.deliveryCount], ["m1", 1]);
    assert.ok(Date.now() - at > 1800);
  });

  scenario("a_subscription_settles_and_renews_by_itself", async ({ client, queue }) => {
    await sendPlain(client, queue, ...range(10), "fails", "slow");
    const seen = [];
    const errors = [];
    const receiver = client.createReceiver(queue);
    const subscription = receiver.subscribe(
      {
        processMessage: async (message) => {
          seen.push([message.body, message.deliveryCount]);
          if (message.body === "fails") throw new Error("as planned");
          if (message.body === "slow") await waitForTimeToPass(LOCK_MS + 1500);
        },
        processError: async ({ error, errorSource }) => void errors.push([errorSource, error.message]),
      },
      { maxConcurrentCalls: 1 }, // its AMQP library mixes up outcomes that are given in one turn
    );
    const looking = client.createReceiver(queue);
    await waitUntil(async () => (await allOf(looking)).length === 0, 30_000, "the completion of all");
    await subscription.close();
    const failed = seen.filter(([body]) => body === "fails");
    assert.deepEqual(failed, [["fails", 0], ["fails", 1], ["fails", 2]]);
    assert.equal(seen.length, 10 + 3 + 1);
    assert.deepEqual(errors, range(3, () => ["processMessageCallback", "as planned"]));
    assert.equal((await receiveOne(deadLettersOf(client, queue))).deadLetterReason, "MaxDeliveryCountExceeded");
  });

  scenario("a_receiver_that_stops_leaves_the_rest", async ({ client, queue }) => {
    await sendPlain(client, queue, ...range(10));
    const deleting = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
    const iterated = [];
    for await (const message of deleting.getMessageIterator()) {
      iterated.push(message.body);
      if (iterated.length === 4) break;
    }
    await deleting.close();
    const receiver = client.createReceiver(queue);
    assert.deepEqual(bodies(await allOf(receiver)), range(6, (n) => n + 4));
    const rest = await receive(receiver, 6);
    assert.deepEqual(rest.map((m) => m.deliveryCount), range(6, () => 0));
  });

  scenario("the_transfer_dead_letter_queue_is_there_and_empty", async ({ client, queue }) => {
    await sendPlain(client, queue, "m1");
    const receiver = client.createReceiver(queue);
    await receiver.deadLetterMessage(await receiveOne(receiver));
    const transfers = client.createReceiver(queue, { subQueueType: "transferDeadLetter" });
    assert.deepEqual(await allOf(transfers), []);
    await assertNothingArrives(transfers, 500);
    await failure(transfers.receiveDeferredMessages(Long.ONE), "MessageNotFound");
    await failure(client.createSender(`${queue}/$Transfer/$DeadLetterQueue`).sendMessages({ body: "m2" }));
  });
});
