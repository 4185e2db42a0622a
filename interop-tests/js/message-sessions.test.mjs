// Accepting, holding and releasing message sessions; order within and between them.
import assert from "node:assert/strict";
import {
  assertNothingArrives,
  bodies,
  failure,
  receive,
  receiveOne,
  send,
  suite,
  waitForTimeToPass,
  waitUntil,
} from "./harness.mjs";

const range = (count, make = (n) => n) => Array.from({ length: count }, (_, n) => make(n));

async function complete(receiver, messages) {
  for (const message of messages) await receiver.completeMessage(message);
}

suite("message sessions", (scenario) => {
  scenario("interleaved_sends_are_demultiplexed_in_order", async ({ client, queue }) => {
    const ids = ["red", "green", "blue"];
    await send(client, queue, ...range(30, (n) => [ids[n % 3], `${ids[n % 3]}-${Math.floor(n / 3)}`]));
    for (const id of ids) {
      const receiver = await client.acceptSession(queue, id);
      const messages = await receive(receiver, 10);
      assert.deepEqual(bodies(messages), range(10, (n) => `${id}-${n}`));
      assert.deepEqual([...new Set(messages.map((message) => message.sessionId))], [id]);
      await complete(receiver, messages);
      await assertNothingArrives(receiver, 500);
      await receiver.close();
    }
  });

  scenario("accept_next_is_pending_until_a_message_arrives", async ({ client, queue }) => {
    let accepted = false;
    const pending = client.acceptNextSession(queue).then((receiver) => ((accepted = true), receiver));
    await waitForTimeToPass(1500);
    assert.equal(accepted, false, "the accept was answered before a message was there");
    await send(client, queue, ["late", "m1"]);
    const receiver = await pending;
    assert.equal(receiver.sessionId, "late");
    const message = await receiveOne(receiver);
    assert.equal(message.body, "m1");
    await receiver.completeMessage(message);
  });

  scenario("accept_next_times_out_when_asked", async (s) => {
    const client = s.newClient({ retry: { maxRetries: 0, timeoutInMs: 2000 } });
    const started = Date.now();
    await failure(client.acceptNextSession(s.queue), "ServiceTimeout");
    const took = Date.now() - started;
    assert.ok(took > 1500 && took < 10_000, `${took} ms`);
  });

  scenario("an_accept_given_up_leaves_no_lock", async (s) => {
    const impatient = s.newClient({ retry: { maxRetries: 0, timeoutInMs: 1000 } });
    await failure(impatient.acceptNextSession(s.queue), "ServiceTimeout");
    await send(s.client, s.queue, ["free", "m1"]);
    const receiver = await s.newClient({ retry: { maxRetries: 0, timeoutInMs: 5000 } }).acceptNextSession(s.queue);
    assert.equal(receiver.sessionId, "free");
    const message = await receiveOne(receiver);
    assert.deepEqual([message.body, message.deliveryCount], ["m1", 0]);
  });

  scenario("accept_by_id_while_held_elsewhere_fails_at_once", async (s) => {
    await send(s.client, s.queue, ["held", "m1"]);
    const holder = await s.client.acceptSession(s.queue, "held");
    for (const other of [s.newClient(), s.client]) {
      const started = Date.now();
      await failure(other.acceptSession(s.queue, "held"), "SessionCannotBeLocked");
      assert.ok(Date.now() - started < 5000);
    }
    await holder.completeMessage(await receiveOne(holder));
  });

  scenario("different_ids_are_held_side_by_side", async ({ client, queue }) => {
    await send(client, queue, ["a", "a1"], ["b", "b1"], ["a", "a2"], ["b", "b2"]);
    const first = await client.acceptSession(queue, "a");
    const second = await client.acceptSession(queue, "b");
    assert.deepEqual(bodies(await receive(second, 2)), ["b1", "b2"]);
    assert.deepEqual(bodies(await receive(first, 2)), ["a1", "a2"]);
  });

  scenario("fifty_racing_accepts_have_one_winner", async (s) => {
    await send(s.client, s.queue, ["prize", "m1"]);
    const clients = range(10, () => s.newClient());
    const results = await Promise.allSettled(range(50, (n) => clients[n % 10].acceptSession(s.queue, "prize")));
    assert.equal(results.filter((result) => result.status === "fulfilled").length, 1);
    const codes = results.filter((result) => result.status === "rejected").map((result) => result.reason.code);
    assert.deepEqual([...new Set(codes)], ["SessionCannotBeLocked"]);
  });

  scenario("ten_message_sessions_are_visited_before_any_twice", async ({ client, queue }) => {
    const ids = range(10, (n) => `s${n}`);
    await send(client, queue, ...range(3, (round) => ids.map((id) => [id, `${round}`])).flat());
    const visited = [];
    for (let n = 0; n < 30; n++) {
      const receiver = await client.acceptNextSession(queue);
      visited.push(receiver.sessionId);
      await receiver.completeMessage(await receiveOne(receiver));
      await receiver.close();
    }
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(visited.slice(round * 10, round * 10 + 10).sort(), ids, visited.join());
    }
  });

  scenario("five_message_sessions_are_handed_out_once_then_timeout", async (s) => {
    const ids = range(5, (n) => `s${n}`);
    await send(s.client, s.queue, ...ids.map((id) => [id, "only"]));
    const visited = [];
    for (let n = 0; n < 5; n++) {
      const receiver = await s.client.acceptNextSession(s.queue);
      visited.push(receiver.sessionId);
      await receiver.completeMessage(await receiveOne(receiver));
      await receiver.close();
    }
    assert.deepEqual(visited.sort(), ids);
    const impatient = s.newClient({ retry: { maxRetries: 0, timeoutInMs: 1000 } });
    await failure(impatient.acceptNextSession(s.queue), "ServiceTimeout");
  });

  scenario("an_id_without_messages_can_be_reserved", async (s) => {
    const receiver = await s.client.acceptSession(s.queue, "mine");
    await send(s.client, s.queue, ["other", "not for me"]);
    await assertNothingArrives(receiver, 1000);
    await failure(s.newClient().acceptSession(s.queue, "mine"), "SessionCannotBeLocked");
    await send(s.client, s.queue, ["mine", "m1"]);
    assert.equal((await receiveOne(receiver)).body, "m1");
  });

  scenario("messages_sent_while_held_reach_the_holder", async (s) => {
    await send(s.client, s.queue, ["held", "m0"]);
    const receiver = await s.client.acceptSession(s.queue, "held");
    assert.equal((await receiveOne(receiver)).body, "m0");
    const other = s.newClient();
    for (let n = 1; n < 4; n++) {
      await send(other, s.queue, ["held", `m${n}`]);
      assert.equal((await receiveOne(receiver)).body, `m${n}`);
    }
  });

  scenario("abandoned_message_is_the_next_one", async ({ client, queue }) => {
    await send(client, queue, ["s", "m1"], ["s", "m2"]);
    const receiver = await client.acceptSession(queue, "s");
    for (let count = 0; count < 3; count++) {
      const message = await receiveOne(receiver);
      assert.deepEqual([message.body, message.deliveryCount], ["m1", count]);
      await receiver.abandonMessage(message);
    }
    const message = await receiveOne(receiver);
    assert.deepEqual([message.body, message.deliveryCount], ["m1", 3]);
    await receiver.completeMessage(message);
    assert.equal((await receiveOne(receiver)).body, "m2");
  });

  scenario("abandon_the_first_of_three_in_flight", async ({ client, queue }) => {
    await send(client, queue, ...range(4, (n) => ["s", `m${n + 1}`]));
    const receiver = await client.acceptSession(queue, "s");
    const [first, second, third] = await receive(receiver, 3);
    await receiver.abandonMessage(first);
    const again = await receiveOne(receiver);
    assert.deepEqual([again.body, again.deliveryCount], ["m1", 1]);
    const fourth = await receiveOne(receiver);
    assert.deepEqual([fourth.body, fourth.deliveryCount], ["m4", 0]);
    await complete(receiver, [third, second, fourth, again]);
  });

  scenario("settling_out_of_order_is_free", async ({ client, queue }) => {
    await send(client, queue, ...range(4, (n) => ["s", `m${n + 1}`]));
    const receiver = await client.acceptSession(queue, "s");
    const messages = await receive(receiver, 3);
    await complete(receiver, [messages[2], messages[0]]);
    await receiver.close();
    assert.deepEqual(bodies(await receive(await client.acceptSession(queue, "s"), 2)), ["m2", "m4"]);
  });

  scenario("close_without_settling_leaves_the_count", async ({ client, queue }) => {
    await send(client, queue, ["s", "m1"], ["s", "m2"]);
    for (let n = 0; n < 3; n++) {
      const receiver = await client.acceptNextSession(queue);
      const messages = await receive(receiver, 2);
      assert.deepEqual(bodies(messages), ["m1", "m2"]);
      assert.deepEqual(messages.map((message) => message.deliveryCount), [0, 0]);
      await receiver.close();
    }
  });

  scenario("a_closed_message_session_is_free_at_once", async (s) => {
    const clients = [s.newClient(), s.newClient()];
    for (let n = 0; n < 20; n++) await (await clients[n % 2].acceptSession(s.queue, "passed on")).close();
  });

  scenario("dead_lettering_does_not_block_the_message_session", async ({ client, queue }) => {
    await send(client, queue, ...range(3, (n) => ["s", `m${n + 1}`]));
    const receiver = await client.acceptSession(queue, "s");
    const reason = { deadLetterReason: "broken", deadLetterErrorDescription: "does not parse" };
    await receiver.deadLetterMessage(await receiveOne(receiver), reason);
    assert.deepEqual(bodies(await receive(receiver, 2)), ["m2", "m3"]);
    const deadLetters = client.createReceiver(queue, { subQueueType: "deadLetter" });
    const message = await receiveOne(deadLetters);
    assert.deepEqual([message.body, message.sessionId, message.deliveryCount], ["m1", "s", 0]);
    assert.deepEqual([message.deadLetterReason, message.deadLetterErrorDescription], ["broken", "does not parse"]);
    await deadLetters.completeMessage(message);
  });

  scenario("third_failure_dead_letters_in_a_message_session", async ({ client, queue }) => {
    await send(client, queue, ["s", "poison"], ["s", "good"]);
    const receiver = await client.acceptSession(queue, "s");
    for (let count = 0; count < 3; count++) {
      const message = await receiveOne(receiver);
      assert.deepEqual([message.body, message.deliveryCount], ["poison", count]);
      await receiver.abandonMessage(message);
    }
    assert.equal((await receiveOne(receiver)).body, "good");
    const message = await receiveOne(client.createReceiver(queue, { subQueueType: "deadLetter" }));
    assert.deepEqual([message.body, message.sessionId, message.deliveryCount], ["poison", "s", 3]);
    assert.equal(message.deadLetterReason, "MaxDeliveryCountExceeded");
    assert.match(message.deadLetterErrorDescription, /3/);
  });

  scenario("receive_and_delete_in_a_message_session", async ({ client, queue }) => {
    await send(client, queue, ...range(5, (n) => ["s", `m${n}`]));
    const receiver = await client.acceptSession(queue, "s", { receiveMode: "receiveAndDelete" });
    assert.deepEqual(bodies(await receive(receiver, 5)), range(5, (n) => `m${n}`));
    assert.deepEqual(await receiver.peekMessages(10), []);
  });

  scenario("request_response_over_a_reply_message_session", async (s) => {
    const [requests, replies] = [`${s.queue}.requests`, `${s.queue}.replies`];
    const requesters = 5;
    const respond = async () => {
      const client = s.newClient();
      const receiver = client.createReceiver(requests);
      const sender = client.createSender(replies);
      for (const request of await receive(receiver, requesters, 30_000)) {
        assert.equal(request.replyTo, replies);
        const addressed = { sessionId: request.replyToSessionId, correlationId: request.messageId };
        await sender.sendMessages({ body: `reply to ${request.body}`, ...addressed });
        await receiver.completeMessage(request);
      }
    };
    const ask = async (n) => {
      const client = s.newClient();
      const receiver = await client.acceptSession(replies, `requester-${n}`);
      const sender = client.createSender(requests);
      const addressed = { messageId: `id-${n}`, replyTo: replies, replyToSessionId: `requester-${n}` };
      await sender.sendMessages({ body: `question ${n}`, ...addressed });
      const reply = await receiveOne(receiver, 30_000);
      assert.deepEqual([reply.body, reply.correlationId], [`reply to question ${n}`, `id-${n}`]);
      await receiver.completeMessage(reply);
    };
    await Promise.all([respond(), ...range(requesters, ask)]);
  });

  scenario("several_handlers_drain_a_hundred_message_sessions", async (s) => {
    const [sessions, each, handlers] = [100, 20, 8];
    const sender = s.client.createSender(s.queue);
    for (let n = 0; n < each; n++) {
      await sender.sendMessages(range(sessions, (id) => ({ body: n, sessionId: `s${id}` })));
    }
    const seen = new Map(range(sessions, (id) => [`s${id}`, []]));
    const handle = async () => {
      const client = s.newClient({ retry: { maxRetries: 0, timeoutInMs: 5000 } });
      for (;;) {
        let receiver;
        try {
          receiver = await client.acceptNextSession(s.queue);
        } catch (error) {
          assert.equal(error.code, "ServiceTimeout", error.message);
          return;
        }
        const texts = seen.get(receiver.sessionId);
        let failed;
        receiver.subscribe({
          processMessage: async (message) => void texts.push(message.body),
          processError: async ({ error }) => void (failed = error),
        });
        await waitUntil(() => failed || texts.length >= each, 30_000, "the end of a message session");
        if (failed) throw failed;
        // the last message is completed after its handler returned
        await waitUntil(async () => (await receiver.peekMessages(1)).length === 0, 10_000, "the last completion");
        await receiver.close();
      }
    };
    await Promise.all(range(handlers, handle));
    const wrong = [...seen].filter(([, texts]) => texts.join() !== range(each).join());
    assert.deepEqual(wrong, []);
  });

  scenario("accept_and_close_cycles_do_not_leak", async (s) => {
    const broker = await s.ownBroker();
    const client = s.newClient({ broker });
    const cycle = async () => (await client.acceptSession(s.queue, "again and again")).close();
    for (let n = 0; n < 50; n++) await cycle();
    const before = broker.residentKib();
    const end = Date.now() + 40_000;
    let done = 0;
    for (; done < 2000 && Date.now() < end; done++) await cycle();
    assert.ok(done >= 500, `only ${done} cycles`);
    // A lock, link or AMQP session that stays behind is visible long before this.
    const grown = broker.residentKib() - before;
    assert.ok(grown < 16 * 1024, `${grown} KiB more after ${done} cycles`);
  });

  scenario("twenty_pending_accepts_and_one_message_wake_exactly_one", async (s) => {
    const clients = range(4, () => s.newClient({ retry: { maxRetries: 0, timeoutInMs: 6000 } }));
    const woken = [];
    const waiting = range(20, (n) =>
      clients[n % 4].acceptNextSession(s.queue).then(
        (receiver) => void woken.push(receiver),
        (error) => error.code,
      ),
    );
    await waitForTimeToPass(1000);
    await send(s.client, s.queue, ["only", "m1"]);
    const codes = await Promise.all(waiting);
    assert.deepEqual(woken.map((receiver) => receiver.sessionId), ["only"]);
    assert.deepEqual(codes.filter(Boolean), range(19, () => "ServiceTimeout"));
    assert.equal((await receiveOne(woken[0])).body, "m1");
  });

  scenario("closing_while_receiving_does_not_hang", async (s) => {
    await send(s.client, s.queue, ["s", "m1"]);
    const receiver = await s.client.acceptNextSession(s.queue);
    const first = await receiveOne(receiver);
    const receiving = receiver.receiveMessages(5, { maxWaitTimeInMs: 30_000 }).catch(() => []);
    await waitForTimeToPass(500);
    const started = Date.now();
    await receiver.close();
    await receiving;
    assert.ok(Date.now() - started < 5000);
    const message = await receiveOne(await s.newClient().acceptNextSession(s.queue));
    assert.deepEqual([message.body, message.deliveryCount], [first.body, 0]);
  });

  scenario("peek_shows_a_message_session_held_by_another", async (s) => {
    await send(s.client, s.queue, ["held", "m1"], ["held", "m2"]);
    const holder = await s.client.acceptSession(s.queue, "held");
    await receiveOne(holder);
    const peeked = await s.newClient().createReceiver(s.queue).peekMessages(10);
    assert.deepEqual(peeked.map((m) => [m.body, m.sessionId, m.deliveryCount]), [["m1", "held", 0], ["m2", "held", 0]]);
    assert.deepEqual(bodies(await holder.peekMessages(10)), ["m1", "m2"]);
  });

  scenario("peek_shows_all_message_sessions_without_a_lock", async (s) => {
    const { client, queue } = s;
    await send(client, queue, ["a", "1"], ["b", "2"], ["a", "3"]);
    assert.deepEqual(bodies(await client.createReceiver(queue).peekMessages(10)), ["1", "2", "3"]);
    // A client of its own: all receivers of one client go on behind the number that any of them peeked last.
    const receiver = await s.newClient().acceptSession(queue, "a");
    assert.deepEqual(bodies(await receiver.peekMessages(10)), ["1", "3"]);
  });

  scenario("send_without_a_session_id_is_rejected", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    assert.match((await failure(sender.sendMessages({ body: "no id" }))).message, /SessionId was not set/);
    await sender.sendMessages({ body: "with id", sessionId: "s" });
    assert.deepEqual(bodies(await (await client.acceptNextSession(queue)).peekMessages(10)), ["with id"]);
  });

  scenario("one_message_without_a_session_id_fails_its_batch", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    await failure(sender.sendMessages([{ body: "a", sessionId: "s" }, { body: "b" }]));
    await sender.sendMessages({ body: "c", sessionId: "s" });
    assert.deepEqual(bodies(await (await client.acceptSession(queue, "s")).peekMessages(10)), ["c"]);
  });

  scenario("a_plain_receiver_on_a_session_queue_is_refused", async ({ client, queue }) => {
    const error = await failure(client.createReceiver(queue).receiveMessages(1, { maxWaitTimeInMs: 5000 }));
    assert.match(error.message, /requires sessions/);
  });

  scenario("a_session_receiver_on_a_plain_queue_is_refused", async ({ client, queue }) => {
    const started = Date.now();
    await failure(client.acceptSession(queue, "s"));
    const error = await failure(client.acceptNextSession(queue));
    assert.notEqual(error.code, "ServiceTimeout");
    assert.ok(Date.now() - started < 10_000);
  });
});
