import assert from "node:assert/strict";
import rhea from "rhea";
import { annotation, bodies, failure, Inbox, waitForTimeToPass, waitUntil } from "./harness.mjs";
import { acceptById, acceptNext, getState, send, setState } from "./snippets.mjs";

const { types } = rhea;
const FILTER = "com.microsoft:session-filter";
const FILTER_CODE = 0x0000_0013_7000_000c;

export function messageSessions(scenario) {
  /** The message session `id` by a filter of this form; the answer has the form of the question. */
  const byFilter = (filter) => async (s) => {
    const connection = await s.connect();
    await send(connection, s.queue, "mine", "for me");
    await send(connection, s.queue, "theirs", "not for me");
    const inbox = await s.openInbox(connection, { source: { address: s.queue, filter: { [FILTER]: filter() } } });
    const granted = inbox.receiver.source.filter[FILTER];
    const asked = filter();
    assert.equal(granted.descriptor?.value, asked.descriptor?.value);
    assert.equal(granted.value ?? granted, asked.value ?? asked);
    const received = await inbox.receiveOne();
    assert.equal(received.message.body, "for me");
    assert.equal(received.message.group_id, "mine");
    assert.ok(await inbox.isEmpty());
    received.delivery.accept();
    await inbox.close();
  };

  scenario("generic_session_by_a_bare_string", byFilter(() => "mine"));
  scenario("generic_session_by_a_described_filter_with_symbol", byFilter(() => types.wrap_described("mine", FILTER)));
  scenario("generic_session_by_a_described_filter_with_ulong", byFilter(() => types.wrap_described("mine", FILTER_CODE)));
  scenario("generic_session_by_a_symbol_typed_id", byFilter(() => types.wrap_symbol("mine")));

  scenario("generic_session_next_by_null", async (s) => {
    const connection = await s.connect();
    const pending = acceptNext(connection, s.queue);
    await send(connection, s.queue, "first", "one");
    const first = await pending;
    assert.equal(first.id, "first");
    await send(connection, s.queue, "second", "two");
    const second = await acceptNext(await s.connect(), s.queue);
    assert.equal(second.id, "second");
    for (const [{ receiver }, body] of [[first, "one"], [second, "two"]]) {
      const received = await new Inbox(receiver).receiveOne();
      assert.equal(received.message.body, body);
      received.delivery.accept();
    }

    // None is left: the wait ends after the time asked for.
    const options = { source: { address: s.queue, filter: { [FILTER]: null } } };
    const wait = { properties: { "com.microsoft:timeout": types.wrap_uint(500) } };
    await failure(s.openInbox(connection, { ...options, ...wait }), "com.microsoft:timeout");
  });

  scenario("generic_session_held_elsewhere_is_refused", async (s) => {
    const [one, other] = [await s.connect(), await s.connect()];
    const holder = await acceptById(one, s.queue, "held");
    await failure(acceptById(other, s.queue, "held"), "com.microsoft:session-cannot-be-locked");
    await failure(acceptById(one, s.queue, "held"), "com.microsoft:session-cannot-be-locked");
    await acceptById(other, s.queue, "free");
    await failure(s.openInbox(other), "amqp:not-allowed");
    // A close of the link frees it at once; so does the close of a connection.
    await new Inbox(holder).close();
    await acceptById(other, s.queue, "held");
    const closed = new Promise((resolve) => other.once("connection_close", resolve));
    other.close();
    await closed;
    await acceptById(one, s.queue, "held");
  });

  scenario("generic_session_messages_come_in_order", async (s) => {
    const connection = await s.connect();
    const numbers = Array.from({ length: 30 }, (_, n) => n);
    for (const n of numbers) await send(connection, s.queue, n % 2 ? "odd" : "even", n);
    const odd = new Inbox(await acceptById(connection, s.queue, "odd"));
    const even = new Inbox(await acceptById(connection, s.queue, "even"));
    const first = await odd.receive(3);
    assert.deepEqual(bodies(first), [1, 3, 5]);
    // What is returned comes before everything later.
    first[1].delivery.modified({ delivery_failed: true });
    const [again] = await odd.receive(1);
    assert.equal(again.message.body, 3);
    assert.equal(again.message.delivery_count, 1);
    for (const { delivery } of [first[0], again, first[2]]) delivery.accept();
    const rest = await odd.receive(12);
    assert.deepEqual(bodies(rest), numbers.filter((n) => n % 2).slice(3));
    assert.deepEqual([...new Set(rest.map(({ message }) => message.group_id))], ["odd"]);
    assert.deepEqual(bodies(await even.receive(15)), numbers.filter((n) => n % 2 === 0));
    assert.ok(await odd.isEmpty());
    assert.ok(await even.isEmpty());

    const outcomes = await s.send(connection, [{ body: "no group-id" }]);
    assert.equal(outcomes[0].condition, "amqp:not-allowed");
  });

  scenario("generic_session_lock_is_renewed_by_management", async (s) => {
    const connection = await s.connect();
    const management = s.management(connection);
    await send(connection, s.queue, "renewed", "held long");
    await send(connection, s.queue, "let go", "back soon");
    const inbox = new Inbox(await acceptById(connection, s.queue, "renewed"));
    const lost = new Inbox(await acceptById(connection, s.queue, "let go"));
    const received = await inbox.receiveOne();
    await lost.receiveOne();
    const ended = new Promise((resolve) => lost.receiver.once("receiver_close", resolve));
    let until = annotation(received, "locked-until");
    for (let round = 0; round < 2; round++) {
      await waitForTimeToPass(3000);
      const end = await management.renew("renewed");
      assert.ok(end > until, `${end} after ${until}`);
      until = end;
    }
    received.delivery.accept();
    await waitUntil(async () => (await s.peek(management)).length === 1, "the end of the message");
    assert.ok(inbox.receiver.is_open());

    // The other one ran out: its link has ended, nobody renews it, and its message is counted.
    await ended;
    assert.equal(lost.receiver.error.condition, "com.microsoft:session-lock-lost");
    await failure(management.renew("let go"), "com.microsoft:session-lock-lost");
    const next = new Inbox(await acceptById(connection, s.queue, "let go"));
    const again = await next.receiveOne();
    assert.equal(again.message.delivery_count, 1);
    again.delivery.accept();

    // Only the connection that holds it renews it.
    const stranger = s.management(await s.connect());
    await failure(stranger.renew("renewed"), "com.microsoft:session-lock-lost");
  });

  scenario("generic_session_state_by_management", async (s) => {
    const connection = await s.connect();
    const management = s.management(connection);
    const inbox = new Inbox(await acceptById(connection, s.queue, "stateful"));
    assert.equal(await getState(management, "stateful"), null);
    await setState(management, "stateful", Buffer.from([0, 1, 255]));
    assert.deepEqual(await getState(management, "stateful"), Buffer.from([0, 1, 255]));
    await setState(management, "stateful", Buffer.alloc(0));
    assert.equal(await getState(management, "stateful"), null);
    await setState(management, "stateful", Buffer.from("kept"));
    await inbox.close();
    await failure(getState(management, "stateful"), "com.microsoft:session-lock-lost");

    const other = await s.connect();
    const theirs = s.management(other);
    await acceptById(other, s.queue, "stateful");
    assert.deepEqual(await getState(theirs, "stateful"), Buffer.from("kept"));
    await failure(setState(management, "stateful", null), "com.microsoft:session-lock-lost");
    await setState(theirs, "stateful", null);
    assert.equal(await getState(theirs, "stateful"), null);
  });

  const selecting = (s, text) => ({ source: { address: s.queue, filter: rhea.filter.selector(text) } });

  scenario("generic_session_by_jms_selector", async (s) => {
    const connection = await s.connect();
    await send(connection, s.queue, "it's mine", "for me");
    await send(connection, s.queue, "theirs", "not for me");
    const inbox = await s.openInbox(connection, selecting(s, "JMSXGroupID = 'it''s mine'"));
    assert.equal(inbox.receiver.source.filter["jms-selector"].value, "JMSXGroupID = 'it''s mine'");
    await failure(acceptById(connection, s.queue, "it's mine"), "com.microsoft:session-cannot-be-locked");
    const received = await inbox.receiveOne();
    assert.equal(received.message.body, "for me");
    assert.ok(await inbox.isEmpty());
    received.delivery.accept();
    await inbox.close();
    await failure(s.openInbox(connection, selecting(s, "colour = 'red'")), "amqp:not-implemented");
  });

  scenario("generic_session_next_by_jms_selector", async (s) => {
    const connection = await s.connect();
    const pending = s.openInbox(connection, selecting(s, "JMSXGroupID IS NOT NULL"));
    await send(connection, s.queue, "first", "one");
    const inbox = await pending;
    // The answer says which one it is.
    assert.equal(inbox.receiver.source.filter["jms-selector"].value, "JMSXGroupID = 'first'");
    const received = await inbox.receiveOne();
    assert.equal(received.message.body, "one");
    assert.equal(received.message.group_id, "first");
    received.delivery.accept();
    await inbox.close();
  });

  scenario("generic_session_auto_renewed_while_the_link_is_open", async (s) => {
    const [connection, other] = [await s.connect(), await s.connect()];
    await send(connection, s.queue, "held", "one");
    const inbox = new Inbox(await acceptById(connection, s.queue, "held"));
    const received = await inbox.receiveOne();
    // More than the five seconds of a lock.
    await waitForTimeToPass(7000);
    await failure(acceptById(other, s.queue, "held"), "com.microsoft:session-cannot-be-locked");
    received.delivery.accept();
    await send(connection, s.queue, "held", "two");
    const later = await inbox.receiveOne();
    assert.equal(later.message.body, "two");
    assert.equal(later.message.delivery_count ?? 0, 0);
    await inbox.close();
    const again = await new Inbox(await acceptById(other, s.queue, "held")).receiveOne();
    assert.equal(again.message.body, "two");
    again.delivery.accept();
  });
}
