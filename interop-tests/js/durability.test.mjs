// What was accepted is there after the process was killed.
import assert from "node:assert/strict";
import { assertNothingArrives, bodies, receive, receiveOne, send, suite } from "./harness.mjs";

suite("durability", (scenario) => {
  scenario("killed_broker_keeps_accepted_messages_in_order", async (s) => {
    const broker = await s.ownBroker();
    const before = s.newClient({ broker });
    const sender = before.createSender(s.queue);
    const accepted = { a: [], b: [] };
    for (let n = 0; n < 40; n++) {
      const sessionId = "ab"[n % 2];
      await sender.sendMessages({ body: n, sessionId });
      accepted[sessionId].push(n);
    }
    const receiver = await before.acceptSession(s.queue, "a");
    for (const message of await receive(receiver, 5)) await receiver.completeMessage(message);
    const reason = { deadLetterReason: "kept", deadLetterErrorDescription: "" };
    await receiver.deadLetterMessage(await receiveOne(receiver), reason);
    assert.deepEqual(bodies(await receive(receiver, 2)), accepted.a.slice(6, 8));
    await broker.kill();
    await broker.start();
    const client = s.newClient({ broker });
    assert.deepEqual(bodies(await receive(await client.acceptSession(s.queue, "a"), 14)), accepted.a.slice(6));
    const rest = await client.acceptSession(s.queue, "b");
    assert.deepEqual(bodies(await receive(rest, 20)), accepted.b);
    const dead = await receiveOne(client.createReceiver(s.queue, { subQueueType: "deadLetter" }));
    assert.deepEqual([dead.body, dead.deadLetterReason], [accepted.a[5], "kept"]);
    await send(client, s.queue, ["b", "after"]);
    const after = await receiveOne(rest);
    assert.equal(after.body, "after");
    assert.ok(after.sequenceNumber.toNumber() > 40);
  });

  scenario("killed_broker_forgets_what_was_settled", async (s) => {
    const broker = await s.ownBroker();
    const before = s.newClient({ broker });
    await before.createSender(s.queue).sendMessages(Array.from({ length: 20 }, (_, n) => ({ body: n })));
    const receiver = before.createReceiver(s.queue);
    for (const message of await receive(receiver, 20)) {
      if (message.body % 2) await receiver.completeMessage(message);
    }
    await broker.kill();
    await broker.start();
    const again = s.newClient({ broker }).createReceiver(s.queue);
    const kept = await receive(again, 10, 90_000);
    assert.deepEqual(bodies(kept), Array.from({ length: 10 }, (_, n) => 2 * n));
    await assertNothingArrives(again, 1000);
  });

  scenario("clean_shutdown_raises_no_count", async (s) => {
    const broker = await s.ownBroker();
    const before = s.newClient({ broker });
    await send(before, s.queue, ["s", "0"], ["s", "1"], ["s", "2"]);
    await receive(await before.acceptSession(s.queue, "s"), 2);
    assert.equal(await broker.stop(), 0);
    await broker.start();
    const messages = await receive(await s.newClient({ broker }).acceptSession(s.queue, "s"), 3);
    assert.deepEqual(messages.map((m) => [m.body, m.deliveryCount]), [["0", 0], ["1", 0], ["2", 0]]);
  });
});
