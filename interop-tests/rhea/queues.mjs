import assert from "node:assert/strict";
import rhea from "rhea";
import {
  annotation,
  bodies,
  certificate,
  failure,
  policies,
  sasToken,
  settle,
  waitForTimeToPass,
  waitUntil,
} from "./harness.mjs";

const { types } = rhea;
const SETTLED = 1;
const SECOND = 1;

export function queues(scenario) {
  scenario("generic_send_receive_and_complete", async (s) => {
    const wrong = s.connect({ password: policies()["send-only"] });
    await assert.rejects(wrong, /Failed to authenticate/);

    // Over TLS in, over plain TCP out.
    const secure = await s.connect({ transport: "tls", ca: certificate("ca.pem"), host: "localhost" });
    const messages = [1, 2, 3, 4, 5].map((n) => ({
      body: `body ${n}`,
      message_id: `id ${n}`,
      subject: "of five",
      application_properties: { n },
    }));
    await s.put(secure, ...messages);

    const connection = await s.connect();
    const inbox = await s.openInbox(connection);
    const received = await inbox.receive(5);
    assert.deepEqual(bodies(received), messages.map(({ body }) => body));
    for (const [index, context] of received.entries()) {
      const { message, delivery } = context;
      assert.equal(message.message_id, `id ${index + 1}`);
      assert.equal(message.subject, "of five");
      assert.deepEqual(message.application_properties, { n: index + 1 });
      assert.equal(message.delivery_count ?? 0, 0);
      assert.equal(annotation(context, "sequence-number"), index + 1);
      assert.equal(delivery.tag.length, 16);
      assert.equal(delivery.remote_settled, false);
      delivery.accept();
    }
    assert.ok(await inbox.isEmpty());
    await inbox.close();
    const again = await s.openInbox(connection);
    assert.ok(await again.isEmpty());
    assert.deepEqual(await s.peek(s.management(connection)), []);
  });

  scenario("generic_anonymous_and_a_cbs_token", async (s) => {
    const connection = await s.connect({ username: "nobody", password: undefined });
    await failure(s.openSender(connection), "amqp:unauthorized-access");
    await failure(s.openInbox(connection), "amqp:unauthorized-access");

    const requests = await s.openSender(connection, "$cbs");
    const answers = await s.openInbox(connection, { source: "$cbs", target: "cbs-answers" });
    const putToken = async (token) => {
      requests.send({
        message_id: "put",
        reply_to: "cbs-answers",
        application_properties: {
          operation: "put-token",
          type: "servicebus.windows.net:sastoken",
          name: `sb://127.0.0.1/${s.queue}`,
        },
        body: token,
      });
      const { message } = await answers.receiveOne();
      assert.equal(message.correlation_id, "put");
      return message.application_properties;
    };
    const resource = `sb://127.0.0.1/${s.queue}`;
    const refused = await putToken(`${sasToken(resource)}x`);
    assert.equal(refused["status-code"], 401);
    assert.equal(refused["error-condition"], "amqp:unauthorized-access");
    await failure(s.openSender(connection), "amqp:unauthorized-access");

    assert.equal((await putToken(sasToken(resource)))["status-code"], 202);
    await s.put(connection, { body: "with a token" });
    const inbox = await s.openInbox(connection);
    const received = await inbox.receiveOne();
    assert.equal(received.message.body, "with a token");
    received.delivery.accept();
    const elsewhere = { address: "generic_receive_and_delete" };
    await failure(s.openInbox(connection, { source: elsewhere }), "amqp:unauthorized-access");
  });

  scenario("generic_every_body_kind_and_property_survives", async (s) => {
    const connection = await s.connect();
    const { data_section, data_sections, sequence_section, sequence_sections } = rhea.message;
    const uuid = Buffer.from("00112233445566778899aabbccddeeff", "hex");
    const kinds = [
      data_section(Buffer.from([0, 1, 2, 255])),
      data_section(Buffer.alloc(0)),
      data_sections([Buffer.from("one"), Buffer.from("two")]),
      sequence_section(["a", 1, null, true]),
      sequence_sections([["a"], ["b", "c"]]),
      "a string",
      "",
      null,
      true,
      -5,
      4000000000,
      1.5,
      { map: { nested: ["list", 1] } },
      ["list", "as", "value"],
      Buffer.from("binary as value"),
    ];
    await s.put(connection, ...kinds.map((body) => ({ body })));
    const inbox = await s.openInbox(connection);
    const received = await inbox.receive(kinds.length);
    assert.deepEqual(bodies(received).map((body) => body ?? null), kinds);

    const properties = {
      user_id: Buffer.from("user"),
      to: "to",
      subject: "subject",
      reply_to: "reply to",
      content_type: "text/plain",
      content_encoding: "gzip",
      creation_time: new Date(1_700_000_000_123),
      group_id: "group",
      group_sequence: 4_000_000_000,
      reply_to_group_id: "reply group",
    };
    const applicationProperties = {
      string: "ä€😀",
      yes: true,
      no: false,
      ubyte: types.wrap_ubyte(255),
      ushort: types.wrap_ushort(65_535),
      uint: types.wrap_uint(4_294_967_295),
      ulong: types.wrap_ulong(9_007_199_254_740_991),
      byte: types.wrap_byte(-128),
      short: types.wrap_short(-32_768),
      int: types.wrap_int(-2_147_483_648),
      long: types.wrap_long(-9_007_199_254_740_991),
      float: types.wrap_float(0.5),
      double: types.wrap_double(Math.PI),
      char: types.wrap_char(0x1f600),
      timestamp: new Date(1_700_000_000_123),
      uuid: types.wrap_uuid(uuid),
      binary: Buffer.from([0, 255]),
      symbol: types.wrap_symbol("symbol"),
      nothing: null,
    };
    const plain = (value) => (value?.type ? rhea.types.unwrap(value) : value);
    const expected = Object.fromEntries(Object.entries(applicationProperties).map(([key, value]) => [key, plain(value)]));
    const ids = ["an id", 18_000_000_000, uuid, types.wrap_binary(Buffer.from("bytes"))];
    const sent = ids.map((id) => ({
      message_id: id,
      correlation_id: id,
      ...properties,
      durable: true,
      priority: 7,
      application_properties: applicationProperties,
      message_annotations: { "x-mine": "kept", "x-number": 5 },
      body: "x",
    }));
    await s.put(connection, ...sent);
    for (const [index, context] of (await inbox.receive(ids.length)).entries()) {
      const { message } = context;
      const id = plain(ids[index]);
      assert.deepEqual(message.message_id, id);
      assert.deepEqual(message.correlation_id, id);
      for (const [name, value] of Object.entries(properties)) assert.deepEqual(message[name], value, name);
      assert.equal(message.durable, true);
      assert.equal(message.priority, 7);
      assert.deepEqual(message.application_properties, expected);
      assert.equal(annotation(context, "locked-until") > new Date(), true);
      assert.equal(message.message_annotations["x-mine"], "kept");
      assert.equal(message.message_annotations["x-number"], 5);
    }
  });

  scenario("generic_a_message_in_many_frames", async (s) => {
    // Larger than the frames of either side: the broker's are 256 KiB at most, this client's 512 bytes.
    const connection = await s.connect({ max_frame_size: 512 });
    assert.ok(connection.max_frame_size <= 262_144);
    const large = Buffer.alloc(700_000);
    for (let at = 0; at < large.length; at += 4) large.writeUInt32BE(at, at);
    await s.put(connection, { body: rhea.message.data_section(large) }, { body: "after it" });
    const inbox = await s.openInbox(connection);
    const [first, second] = await inbox.receive(2);
    assert.ok(first.message.body.content.equals(large));
    assert.equal(second.message.body, "after it");
  });

  scenario("generic_outcomes_accepted_released_modified_rejected", async (s) => {
    const connection = await s.connect();
    await s.put(connection, ...["accepted", "released", "modified", "rejected"].map((body) => ({ body })));
    const inbox = await s.openInbox(connection);
    const [accepted, released, modified, rejected] = await inbox.receive(4);
    await settle(accepted, (delivery) => delivery.accept());
    await settle(released, (delivery) => delivery.release());
    const tried = { delivery_failed: true, message_annotations: { why: "tried" } };
    await settle(modified, (delivery) => delivery.modified(tried));
    const info = { DeadLetterReason: "bad", DeadLetterErrorDescription: "very bad", more: 1 };
    const error = { condition: "my:condition", description: "not used", info };
    await settle(rejected, (delivery) => delivery.reject(error));
    const [first, second] = await inbox.receive(2);
    assert.equal(first.message.body, "released");
    assert.equal(first.message.delivery_count ?? 0, 0);
    assert.equal(second.message.body, "modified");
    assert.equal(second.message.delivery_count, 1);
    assert.equal(second.message.application_properties.why, "tried");
    first.delivery.accept();
    second.delivery.accept();
    assert.ok(await inbox.isEmpty());

    const dead = await s.openInbox(connection, { source: `${s.queue}/$DeadLetterQueue` });
    const letter = await dead.receiveOne();
    assert.equal(letter.message.body, "rejected");
    assert.equal(letter.message.delivery_count ?? 0, 0);
    assert.deepEqual(letter.message.application_properties, info);
    letter.delivery.accept();
    assert.ok(await dead.isEmpty());
  });

  scenario("generic_receive_and_delete", async (s) => {
    const connection = await s.connect();
    await s.put(connection, { body: "one" }, { body: "two" }, { body: "three" });
    const inbox = await s.openInbox(connection, { snd_settle_mode: SETTLED });
    assert.equal(inbox.receiver.snd_settle_mode, SETTLED);
    const received = await inbox.receive(2);
    assert.deepEqual(bodies(received), ["one", "two"]);
    for (const { delivery, message } of received) {
      assert.equal(delivery.remote_settled, true);
      assert.equal(message.delivery_annotations?.["x-opt-lock-token"], undefined);
    }
    await inbox.close();
    const rest = await s.openInbox(connection);
    assert.deepEqual(bodies(await rest.receive(1)), ["three"]);
    assert.ok(await rest.isEmpty());
  });

  scenario("generic_the_receiver_settles_second", async (s) => {
    const connection = await s.connect();
    const names = ["accepted", "released", "modified", "rejected", "late"];
    await s.put(connection, ...names.map((body) => ({ body })));
    const inbox = await s.openInbox(connection, { rcv_settle_mode: SECOND });
    assert.equal(inbox.receiver.rcv_settle_mode, SECOND);
    const confirmed = [];
    inbox.receiver.on("settled", ({ delivery }) => confirmed.push(delivery));
    const received = await inbox.receive(5);
    const outcome = async ({ delivery }, act) => {
      act(delivery);
      assert.equal(delivery.settled, false);
      await waitUntil(() => confirmed.includes(delivery), "the confirmation");
      return delivery.remote_state;
    };
    const kind = (state) => state.constructor.composite_type;
    assert.equal(kind(await outcome(received[0], (delivery) => delivery.accept())), "accepted");
    assert.equal(kind(await outcome(received[1], (delivery) => delivery.release())), "released");
    const failed = { delivery_failed: true };
    const modified = await outcome(received[2], (delivery) => delivery.modified(failed));
    assert.equal(kind(modified), "modified");
    assert.equal(modified.delivery_failed, true);
    const rejected = await outcome(received[3], (delivery) => delivery.reject({ condition: "my:condition" }));
    assert.equal(kind(rejected), "rejected");
    assert.equal(rejected.error ?? null, null);

    // Someone else was quicker: the outcome cannot be what was asked for, and says why.
    const token = received[4].message.delivery_annotations["x-opt-lock-token"];
    await s.management(connection).ask("com.microsoft:update-disposition", {
      "disposition-status": "completed",
      "lock-tokens": types.wrap_array([token], 0x98),
    });
    const late = await outcome(received[4], (delivery) => delivery.accept());
    assert.equal(kind(late), "rejected");
    assert.equal(late.error.condition, "com.microsoft:message-lock-lost");

    assert.deepEqual(bodies(await inbox.receive(2)), ["released", "modified"]);
    assert.ok(await inbox.isEmpty());
  });

  scenario("generic_a_pre_settled_send", async (s) => {
    const connection = await s.connect();
    const sender = await s.openSender(connection, { target: s.queue, snd_settle_mode: SETTLED });
    assert.equal(sender.snd_settle_mode, SETTLED);
    let outcomes = 0;
    for (const event of ["accepted", "rejected", "released", "settled"]) sender.on(event, () => (outcomes += 1));
    for (let n = 0; n < 10; n++) sender.send({ body: n });
    const inbox = await s.openInbox(connection);
    assert.deepEqual(bodies(await inbox.receive(10)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.equal(outcomes, 0);

    // What is refused has no outcome either: the link ends.
    const closed = new Promise((resolve) => sender.once("sender_close", resolve));
    sender.send({ body: "x", group_id: "g".repeat(129) });
    await closed;
    assert.equal(sender.error.condition, "com.microsoft:argument-error");
  });

  scenario("generic_a_drain_is_answered", async (s) => {
    const connection = await s.connect();
    const inbox = await s.openInbox(connection);
    inbox.receiver.add_credit(50);
    await inbox.drain();
    assert.equal(inbox.receiver.credit, 0);
    await inbox.drain();
    assert.equal(inbox.waiting.length, 0);

    await s.put(connection, ...[1, 2, 3, 4, 5].map((body) => ({ body })));
    inbox.receiver.add_credit(3);
    await inbox.drain();
    assert.deepEqual(bodies(inbox.waiting), [1, 2, 3]);
    assert.equal(inbox.receiver.credit, 0);
    inbox.receiver.add_credit(100);
    await inbox.drain();
    assert.deepEqual(bodies(inbox.waiting), [1, 2, 3, 4, 5]);
    assert.equal(inbox.receiver.credit, 0);

    // The link goes on after a drain.
    await s.put(connection, { body: 6 });
    inbox.receiver.add_credit(1);
    await inbox.arrived(6);
  });

  scenario("generic_credit_is_kept_to", async (s) => {
    const connection = await s.connect();
    await s.put(connection, ...Array.from({ length: 10 }, (_, body) => ({ body })));
    const inbox = await s.openInbox(connection);
    const { receiver } = inbox;
    await waitForTimeToPass(300);
    assert.deepEqual(bodies(inbox.waiting), []);
    receiver.add_credit(3);
    await inbox.arrived(3);
    await waitForTimeToPass(300);
    assert.deepEqual(bodies(inbox.waiting), [0, 1, 2]);
    // Settling is no credit.
    inbox.waiting.forEach(({ delivery }) => delivery.accept());
    await waitForTimeToPass(300);
    assert.equal(inbox.waiting.length, 3);
    receiver.add_credit(1);
    receiver.add_credit(1);
    await inbox.arrived(5);
    await waitForTimeToPass(300);
    assert.deepEqual(bodies(inbox.waiting), [0, 1, 2, 3, 4]);
    assert.equal(receiver.credit, 0);
  });

  scenario("generic_a_plain_receiver_shares_with_another", async (s) => {
    const connections = [await s.connect(), await s.connect()];
    const inboxes = [await s.openInbox(connections[0]), await s.openInbox(connections[1])];
    inboxes.forEach((inbox) => inbox.receiver.add_credit(50));
    const sent = Array.from({ length: 40 }, (_, body) => body);
    await s.put(connections[0], ...sent.map((body) => ({ body })));
    await waitUntil(() => inboxes[0].waiting.length + inboxes[1].waiting.length >= 40, "the arrival of all");
    const [one, other] = inboxes.map((inbox) => bodies(inbox.waiting));
    assert.ok(one.length > 0 && other.length > 0, `${one.length} and ${other.length}`);
    assert.deepEqual([...one, ...other].sort((a, b) => a - b), sent);
    for (const seen of [one, other]) assert.deepEqual(seen, [...seen].sort((a, b) => a - b));

    // What one without credit returns, the other gets.
    await inboxes[0].drain();
    inboxes[0].waiting.forEach(({ delivery }) => delivery.release());
    await inboxes[0].close();
    await inboxes[1].arrived(40);
    const returned = inboxes[1].waiting.slice(other.length);
    assert.deepEqual(bodies(returned).sort((a, b) => a - b), one);
    for (const { message } of returned) assert.equal(message.delivery_count ?? 0, 0);
  });

  scenario("generic_deferring_by_disposition", async (s) => {
    const connection = await s.connect();
    await s.put(connection, { body: "not now" });
    const inbox = await s.openInbox(connection, { rcv_settle_mode: SECOND });
    const received = await inbox.receiveOne();
    const settled = new Promise((resolve) => inbox.receiver.once("settled", resolve));
    received.delivery.modified({ undeliverable_here: true });
    const { delivery } = await settled;
    assert.equal(delivery.remote_state.constructor.composite_type, "modified");
    // It does not come again; its number finds it.
    assert.ok(await inbox.isEmpty());
    const management = s.management(connection);
    const [shown] = await s.peek(management);
    assert.equal(shown.body, "not now");
    assert.equal(shown.message_annotations["x-opt-message-state"], 1);
    const number = received.message.message_annotations["x-opt-sequence-number"];
    const { messages } = await management.ask("com.microsoft:receive-by-sequence-number", {
      "sequence-numbers": types.wrap_array([number], 0x81),
      "receiver-settle-mode": types.wrap_uint(1),
    });
    const fetched = rhea.message.decode(messages[0].message);
    assert.equal(fetched.body, "not now");
    assert.equal(fetched.delivery_count, 1);
    await management.ask("com.microsoft:update-disposition", {
      "disposition-status": "completed",
      "lock-tokens": types.wrap_array([messages[0]["lock-token"]], 0x98),
    });
    assert.deepEqual(await s.peek(management), []);
  });

  scenario("generic_peek_by_management", async (s) => {
    const connection = await s.connect();
    const management = s.management(connection);
    assert.deepEqual(await s.peek(management), []);
    await s.put(connection, ...["one", "two", "three"].map((body) => ({ body, application_properties: { body } })));
    const inbox = await s.openInbox(connection);
    const [locked] = await inbox.receive(1);
    const shown = await s.peek(management);
    assert.deepEqual(shown.map(({ body }) => body), ["one", "two", "three"]);
    assert.deepEqual(shown.map((message) => message.message_annotations["x-opt-sequence-number"]), [1, 2, 3]);
    assert.deepEqual(shown[2].application_properties, { body: "three" });
    const range = { "from-sequence-number": types.wrap_long(2), "message-count": types.wrap_int(1) };
    assert.deepEqual((await s.peek(management, range)).map(({ body }) => body), ["two"]);
    // Peeking changed nothing: the others are there, the first one is still this receiver's.
    locked.delivery.accept();
    assert.deepEqual(bodies(await inbox.receive(2)), ["two", "three"]);
    await waitUntil(async () => (await s.peek(management)).length === 2, "the end of the first message");
  });

  scenario("generic_a_message_lock_is_renewed_by_management", async (s) => {
    const connection = await s.connect();
    const management = s.management(connection);
    await s.put(connection, { body: "held long" }, { body: "let go" });
    const inbox = await s.openInbox(connection);
    const [held, lost] = await inbox.receive(2);
    const token = held.message.delivery_annotations["x-opt-lock-token"];
    let until = annotation(held, "locked-until");
    for (let round = 0; round < 2; round++) {
      await waitForTimeToPass(3000);
      const tokens = { "lock-tokens": types.wrap_array([token], 0x98) };
      const { expirations } = await management.ask("com.microsoft:renew-lock", tokens);
      assert.equal(expirations.length, 1);
      assert.ok(expirations[0] > until, `${expirations[0]} after ${until}`);
      until = expirations[0];
    }
    // The other one ran out meanwhile and is back, counted.
    const back = await inbox.receiveOne();
    assert.equal(back.message.body, "let go");
    assert.equal(back.message.delivery_count, 1);
    const dead = { "lock-tokens": types.wrap_array([lost.message.delivery_annotations["x-opt-lock-token"]], 0x98) };
    await failure(management.ask("com.microsoft:renew-lock", dead), "com.microsoft:message-lock-lost");
    held.delivery.accept();
    back.delivery.accept();
    await waitUntil(async () => (await s.peek(management)).length === 0, "the end of both messages");
  });

  scenario("generic_external_by_client_certificate", async (s) => {
    const by = (name) => ({
      transport: "tls",
      host: "localhost",
      ca: certificate("ca.pem"),
      cert: certificate(`${name}.pem`),
      key: certificate(`${name}-key.pem`),
      enable_sasl_external: true,
      username: undefined,
      password: undefined,
    });
    const connection = await s.connect(by("client"));
    await s.put(connection, { body: "by certificate" });
    const inbox = await s.openInbox(connection);
    const received = await inbox.receiveOne();
    assert.equal(received.message.body, "by certificate");
    received.delivery.accept();
    await assert.rejects(s.connect(by("stranger")), /Failed to authenticate/);
  });
}
