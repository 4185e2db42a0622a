// What comes out is what went in.
import assert from "node:assert/strict";
import { receive, receiveOne, suite } from "./harness.mjs";

const SENT = {
  contentType: "application/json",
  correlationId: "correlation",
  messageId: "identity",
  partitionKey: "partition",
  replyTo: "reply queue",
  replyToSessionId: "reply session",
  sessionId: "partition",
  subject: "subject",
  to: "destination",
};

const pick = (message, names) => Object.fromEntries(names.map((name) => [name, message[name]]));

suite("fidelity", (scenario) => {
  scenario("properties_survive_the_round_trip", async ({ client, queue }) => {
    await client.createSender(queue).sendMessages({ body: { n: 1 }, applicationProperties: { k: "v" }, ...SENT });
    const message = await receiveOne(client.createReceiver(queue));
    assert.deepEqual(pick(message, Object.keys(SENT)), SENT);
    assert.deepEqual(message.body, { n: 1 });
    assert.deepEqual(message.applicationProperties, { k: "v" });
  });

  scenario("application_property_types_survive", async ({ client, queue }) => {
    const properties = {
      bool: true,
      int: 7,
      negative: -7,
      large: 2 ** 40,
      float: 1.5,
      text: "größer",
      time: new Date(1_700_000_000_123),
      null: null,
    };
    await client.createSender(queue).sendMessages({ body: "m", applicationProperties: properties });
    const receiver = client.createReceiver(queue, { skipConvertingDate: true });
    const got = (await receiveOne(receiver)).applicationProperties;
    assert.deepEqual({ ...got, time: new Date(got.time) }, properties);
  });

  // The client writes it before the body.
  scenario("a_footer_comes_back", async ({ client, queue }) => {
    const footer = { checksum: "12ab", parts: 3 };
    const sender = client.createSender(queue);
    const message = { body: "m", bodyType: "data", footer };
    await sender.sendMessages(message);
    await sender.sendMessages([message, { body: "without" }]);
    await sender.scheduleMessages(message, new Date());
    const messages = await receive(client.createReceiver(queue), 4);
    const got = messages.map(({ body, _rawAmqpMessage: raw }) => [body.toString(), raw.footer]);
    assert.deepEqual(got, [["m", footer], ["m", footer], ["without", undefined], ["m", footer]]);
  });

  scenario("what_was_not_sent_stays_absent", async ({ client, queue }) => {
    await client.createSender(queue).sendMessages({ body: "bare" });
    const message = await receiveOne(client.createReceiver(queue));
    const absent = [
      ...Object.keys(SENT).filter((name) => name !== "messageId"),
      "applicationProperties",
      "timeToLive",
      "scheduledEnqueueTimeUtc",
      "deadLetterReason",
      "deadLetterSource",
    ];
    assert.deepEqual(pick(message, absent), Object.fromEntries(absent.map((name) => [name, undefined])));
    assert.ok(message.messageId, "the broker fills in a missing message id");
    assert.equal(message.state, "active");
  });

  scenario("body_kinds_survive", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    const sent = [
      { bodyType: "data", body: { json: [1, "x"] } },
      { bodyType: "value", body: { list: [1, null, "x"], n: 5 } },
      { bodyType: "value", body: null },
      { bodyType: "sequence", body: [[1, 2, "three"]] },
    ];
    for (const message of sent) await sender.sendMessages(message);
    await sender.sendMessages({ body: Buffer.from([0, 255, 128]) });
    const messages = await receive(client.createReceiver(queue), 5);
    assert.deepEqual(messages.slice(0, 3).map((m) => m._rawAmqpMessage.bodyType), ["data", "value", "value"]);
    assert.equal(messages[3]._rawAmqpMessage.bodyType, "sequence");
    assert.deepEqual(messages[0].body, sent[0].body);
    assert.deepEqual(messages[1].body, sent[1].body);
    assert.equal(messages[2].body, null);
    assert.deepEqual([messages[3].body].flat(2), [1, 2, "three"]);
    assert.deepEqual([...messages[4].body], [0, 255, 128]);
  });

  scenario("a_received_message_can_be_sent_again", async ({ client, queue }) => {
    const sender = client.createSender(queue);
    await sender.sendMessages({
      bodyType: "data",
      body: "payload",
      applicationProperties: { k: 1 },
      messageAnnotations: { "x-own-annotation": "kept" },
      header: { priority: 7, durable: true },
      properties: { messageId: "id", subject: "subject", groupId: "group" },
    });
    const receiver = client.createReceiver(queue);
    for (let n = 0; n < 2; n++) {
      const message = await receiveOne(receiver);
      const raw = message._rawAmqpMessage;
      assert.deepEqual([message.body, message.applicationProperties, message.deliveryCount], ["payload", { k: 1 }, 0]);
      assert.deepEqual([message.messageId, message.subject, message.sessionId], ["id", "subject", "group"]);
      if (n === 0) {
        assert.equal(raw.messageAnnotations["x-own-annotation"], "kept");
        assert.deepEqual([raw.header.priority, raw.header.durable], [7, true]);
      }
      await receiver.completeMessage(message);
      await sender.sendMessages(message);
    }
  });
});
