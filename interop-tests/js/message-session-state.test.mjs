// The state blob of a message session. This SDK sends what it is given as JSON text.
import assert from "node:assert/strict";
import { failure, receiveOne, send, suite } from "./harness.mjs";

suite("message session state", (scenario) => {
  scenario("state_is_kept_replaced_and_cleared", async ({ client, queue }) => {
    const receiver = await client.acceptSession(queue, "s");
    assert.equal(await receiver.getSessionState(), null);
    await receiver.setSessionState({ step: 1, text: "größer" });
    assert.deepEqual(await receiver.getSessionState(), { step: 1, text: "größer" });
    await receiver.setSessionState("second");
    assert.equal(await receiver.getSessionState(), "second");
    await receiver.setSessionState(null);
    assert.equal(await receiver.getSessionState(), null);
    await receiver.setSessionState("third");
    assert.equal(await receiver.getSessionState(), "third");
  });

  scenario("state_is_isolated_between_message_sessions", async ({ client, queue }) => {
    const [a, b] = [await client.acceptSession(queue, "a"), await client.acceptSession(queue, "b")];
    await a.setSessionState("of a");
    assert.equal(await b.getSessionState(), null);
    await b.setSessionState("of b");
    assert.deepEqual([await a.getSessionState(), await b.getSessionState()], ["of a", "of b"]);
    await a.setSessionState(null);
    assert.equal(await b.getSessionState(), "of b");
  });

  scenario("state_is_seen_by_the_next_holder", async (s) => {
    await send(s.client, s.queue, ["s", "m1"]);
    const receiver = await s.client.acceptSession(s.queue, "s");
    await receiver.setSessionState("step 1");
    await receiver.completeMessage(await receiveOne(receiver));
    await receiver.close();
    assert.equal(await (await s.newClient().acceptSession(s.queue, "s")).getSessionState(), "step 1");
  });

  scenario("state_over_the_limit_is_refused_and_the_old_kept", async ({ client, queue }) => {
    const receiver = await client.acceptSession(queue, "s");
    const largest = "x".repeat(200 * 1024);
    await receiver.setSessionState(largest);
    await failure(receiver.setSessionState("y".repeat(300 * 1024)), "MessageSizeExceeded");
    await receiver.close();
    assert.equal(await (await client.acceptSession(queue, "s")).getSessionState(), largest);
  });

  scenario("state_survives_a_restart", async (s) => {
    const broker = await s.ownBroker();
    const receiver = await s.newClient({ broker }).acceptSession(s.queue, "s");
    await receiver.setSessionState("before the crash");
    await broker.kill();
    await broker.start();
    const client = s.newClient({ broker });
    assert.equal(await (await client.acceptSession(s.queue, "other")).getSessionState(), null);
    assert.equal(await (await client.acceptSession(s.queue, "s")).getSessionState(), "before the crash");
  });
});
