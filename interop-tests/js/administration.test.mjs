// ServiceBusAdministrationClient over TLS on the broker's one port: queues at run time.
import assert from "node:assert/strict";
import { ServiceBusAdministrationClient } from "@azure/service-bus";
import { bodies, failure, policies, receiveOne, send, sendPlain, suite, waitUntil } from "./harness.mjs";

/** The connection string that messages go by; the certificate is trusted through NODE_EXTRA_CA_CERTS. */
function administrator(broker, policy, options) {
  return new ServiceBusAdministrationClient(broker.connectionString(policy, options).replace("127.0.0.1", "localhost"));
}

async function refused(promise, code, pattern) {
  const error = await promise.then(() => assert.fail("it was not refused"), (error) => error);
  assert.equal(error.code, code, error.message);
  if (pattern) assert.match(error.message, pattern);
  return error;
}

const FOREVER = "P10675199DT2H48M5.4775807S";

function rule(keyName, ...accessRights) {
  const key = policies().root;
  return {
    claimType: "SharedAccessKey",
    claimValue: "None",
    keyName,
    accessRights,
    primaryKey: key,
    secondaryKey: `${[...key.slice(1, -1)].reverse().join("")}A=`.padStart(44, "B"),
  };
}

suite("administration", (scenario) => {
  /** A scenario with an administration client and the name of a queue that is gone afterwards. */
  const administering = (name, body) =>
    scenario(name, async (s) => {
      const admin = administrator(s.broker);
      const made = `Made/${name}`;
      try {
        await body(s, admin, made);
      } finally {
        await admin.deleteQueue(made).catch(() => {});
      }
    });

  administering("a_queue_is_created_read_updated_and_deleted", async (s, admin, made) => {
    assert.equal(await admin.queueExists(made), false);
    const created = await admin.createQueue(made, { lockDuration: "PT30S", maxDeliveryCount: 3 });
    assert.deepEqual([created.name, created.lockDuration, created.maxDeliveryCount], [made, "PT30S", 3]);
    await refused(admin.createQueue(made.toUpperCase()), "MessageEntityAlreadyExistsError");
    const read = await admin.getQueue(made);
    assert.deepEqual([read.name, read.lockDuration, read.requiresSession], [made, "PT30S", false]);
    assert.equal(await admin.queueExists(made), true);
    const userMetadata = '<&> "ü" ]]>';
    await admin.updateQueue({ ...read, lockDuration: "PT4M59S", userMetadata });
    const again = await admin.getQueue(made);
    assert.deepEqual([again.lockDuration, again.userMetadata, again.maxDeliveryCount], ["PT4M59S", userMetadata, 3]);
    await admin.deleteQueue(made);
    await refused(admin.getQueue(made), "MessageEntityNotFoundError");
    await refused(admin.getQueueRuntimeProperties(made), "MessageEntityNotFoundError");
    await refused(admin.deleteQueue(made), "MessageEntityNotFoundError");
    await refused(admin.updateQueue(again), "MessageEntityNotFoundError");
  });

  administering("every_property_of_a_queue_comes_back_as_it_was_given", async (s, admin, made) => {
    const given = {
      authorizationRules: [rule("all", "Manage", "Send", "Listen"), rule("listen", "Listen")],
      autoDeleteOnIdle: "P2D",
      deadLetteringOnMessageExpiration: true,
      defaultMessageTimeToLive: "PT11M",
      duplicateDetectionHistoryTimeWindow: "PT12M",
      enableBatchedOperations: false,
      enablePartitioning: true,
      lockDuration: "PT13S",
      maxDeliveryCount: 14,
      maxSizeInMegabytes: 3072,
      requiresDuplicateDetection: true,
      requiresSession: true,
      status: "ReceiveDisabled",
      userMetadata: "data",
    };
    await admin.createQueue(made, given);
    const read = await admin.getQueue(made);
    for (const [name, value] of Object.entries(given)) {
      // The size is that of all partitions, as in Service Bus.
      let expected = name === "maxSizeInMegabytes" ? 16 * value : value;
      // This client does not show the claim value that it sends.
      if (name === "authorizationRules") expected = value.map(({ claimValue, ...rest }) => rest);
      assert.deepEqual(JSON.parse(JSON.stringify(read[name])), expected, name);
    }
    // What was read can be sent back as it is.
    await admin.updateQueue(read);
    const { _response, ...before } = read;
    const { _response: _, ...after } = await admin.getQueue(made);
    assert.deepEqual(after, before);
  });

  administering("a_queue_has_the_defaults_of_service_bus", async (s, admin, made) => {
    await admin.createQueue(made);
    const read = await admin.getQueue(made);
    for (const [name, value] of Object.entries({
      autoDeleteOnIdle: FOREVER,
      availabilityStatus: "Available",
      deadLetteringOnMessageExpiration: false,
      defaultMessageTimeToLive: FOREVER,
      duplicateDetectionHistoryTimeWindow: "PT10M",
      enableBatchedOperations: true,
      enableExpress: false,
      enablePartitioning: false,
      lockDuration: "PT1M",
      maxDeliveryCount: 10,
      maxSizeInMegabytes: 1024,
      requiresDuplicateDetection: false,
      requiresSession: false,
      status: "Active",
      forwardTo: undefined,
      userMetadata: undefined,
    })) {
      assert.deepEqual(read[name], value, name);
    }
    await admin.updateQueue(read);
    assert.equal((await admin.getQueue(made)).defaultMessageTimeToLive, FOREVER);
  });

  scenario("queues_are_listed_over_several_pages", async (s) => {
    // Queues that come and go between two pages move the others; here nobody else makes any.
    const admin = administrator(await s.ownBroker());
    const made = "Made/one";
    await admin.createQueue(made);
    const names = [];
    for await (const queue of admin.listQueues()) names.push(queue.name);
    assert.ok(names.length > 200 && names.includes(made) && names.includes(s.queue));
    const keys = names.map((name) => name.toLowerCase());
    assert.deepEqual(keys, [...new Set(keys)].sort());
    let counted = 0;
    for await (const page of admin.listQueuesRuntimeProperties().byPage({ maxPageSize: 70 })) {
      assert.ok(page.length <= 70);
      counted += page.length;
    }
    assert.equal(counted, names.length);
  });

  administering("runtime_counts_are_exact", async (s, admin, made) => {
    await admin.createQueue(made);
    const before = await admin.getQueueRuntimeProperties(made);
    assert.deepEqual([before.totalMessageCount, before.sizeInBytes, before.accessedAt.getUTCFullYear()], [0, 0, 1]);
    await sendPlain(s.client, made, "locked", "dead", "active");
    await s.client.createSender(made).scheduleMessages({ body: "scheduled" }, new Date(Date.now() + 3_600_000));
    const receiver = s.client.createReceiver(made);
    await receiveOne(receiver);
    await receiver.deadLetterMessage(await receiveOne(receiver));
    const counts = await admin.getQueueRuntimeProperties(made);
    assert.deepEqual([counts.totalMessageCount, counts.activeMessageCount], [4, 2]);
    assert.deepEqual([counts.deadLetterMessageCount, counts.scheduledMessageCount], [1, 1]);
    assert.deepEqual([counts.transferMessageCount, counts.transferDeadLetterMessageCount], [0, 0]);
    assert.ok(counts.sizeInBytes > 0);
    assert.equal(counts.createdAt.getTime(), before.createdAt.getTime());
    assert.ok(counts.createdAt <= counts.modifiedAt && counts.modifiedAt <= counts.accessedAt);
  });

  scenario("a_queue_made_at_run_time_serves_messages_and_survives_a_kill", async (s) => {
    const broker = await s.ownBroker();
    const made = "Made/one";
    const admin = administrator(broker);
    await admin.createQueue(made, { requiresSession: true, userMetadata: "kept" });
    await admin.updateQueue({ ...(await admin.getQueue(s.queue)), maxDeliveryCount: 77 });
    assert.equal((await admin.getQueue(s.queue)).maxDeliveryCount, 77);
    await send(s.newClient({ broker }), made, ["a", "m1"]);
    await broker.kill();
    await broker.start();
    const read = await admin.getQueue(made);
    assert.deepEqual([read.name, read.requiresSession, read.userMetadata], [made, true, "kept"]);
    const receiver = await s.newClient({ broker }).acceptSession(made, "a");
    const message = await receiveOne(receiver);
    assert.deepEqual(bodies([message]), ["m1"]);
    await receiver.completeMessage(message);
    // For a queue that the file names the file wins, and says so.
    assert.equal((await admin.getQueue(s.queue)).maxDeliveryCount, 10);
    const warning = `queue '${s.queue}' of namespace 'sbtest' is stored with another max_delivery_count`;
    assert.ok(broker.logTail(500).includes(warning));
  });

  administering("deleting_a_queue_ends_its_links_and_its_messages", async (s, admin, made) => {
    await admin.createQueue(made);
    const sender = s.client.createSender(made);
    const receiver = s.client.createReceiver(made);
    await sender.sendMessages([{ body: "m1" }, { body: "m2" }]);
    await receiveOne(receiver);
    await admin.deleteQueue(made);
    // A message that crosses the end of its link has no outcome, and the SDK waits a minute for one.
    await waitUntil(() => !sender._sender.isOpen(), undefined, "the end of the sender's link");
    await failure(sender.sendMessages({ body: "m3" }), "MessagingEntityNotFound");
    await admin.createQueue(made);
    const client = s.newClient();
    await sendPlain(client, made, "again");
    const message = await receiveOne(client.createReceiver(made));
    assert.deepEqual([message.body, message.sequenceNumber.toString()], ["again", "1"]);
  });

  administering("a_status_set_at_run_time_is_in_force_at_once", async (s, admin, made) => {
    await admin.createQueue(made);
    const sender = s.client.createSender(made);
    await sender.sendMessages({ body: "m1" });
    const properties = await admin.getQueue(made);
    await admin.updateQueue({ ...properties, status: "SendDisabled" });
    await failure(sender.sendMessages({ body: "m2" }), "MessagingEntityDisabled");
    const receiver = s.client.createReceiver(made);
    await receiver.completeMessage(await receiveOne(receiver));
    await admin.updateQueue({ ...properties, status: "Disabled" });
    const receiving = s.newClient().createReceiver(made).receiveMessages(1, { maxWaitTimeInMs: 5000 });
    await failure(receiving, "MessagingEntityDisabled");
    await admin.updateQueue({ ...properties, status: "Active" });
    await sendPlain(s.newClient(), made, "m3");
  });

  administering("an_update_is_in_force_on_open_links", async (s, admin, made) => {
    await admin.createQueue(made, { lockDuration: "PT30S" });
    const sender = s.client.createSender(made);
    const receiver = s.client.createReceiver(made);
    const lockedForMs = async () => {
      const message = await receiveOne(receiver);
      const left = message.lockedUntilUtc - Date.now();
      await receiver.completeMessage(message);
      return left;
    };
    await sender.sendMessages({ body: "m1" });
    const before = await lockedForMs();
    assert.ok(before > 10_000 && before <= 30_000, `${before}`);
    const properties = await admin.getQueue(made);
    await admin.updateQueue({ ...properties, lockDuration: "PT200S", defaultMessageTimeToLive: "PT3M" });
    // The same links go on.
    await sender.sendMessages({ body: "m2", timeToLive: 3_600_000 });
    const [peeked] = await receiver.peekMessages(1);
    assert.equal(peeked.timeToLive, 180_000);
    const after = await lockedForMs();
    assert.ok(after > 100_000 && after <= 200_000, `${after}`);
  });

  administering("what_service_bus_refuses_is_refused_and_changes_nothing", async (s, admin, made) => {
    for (const wrong of [
      { lockDuration: "P25D" },
      { maxSizeInMegabytes: 1000 },
      { maxDeliveryCount: 0 },
      { maxMessageSizeInKilobytes: 1024 },
      { autoDeleteOnIdle: "PT1S" },
      { enableExpress: true, requiresDuplicateDetection: true },
    ]) {
      assert.equal((await refused(admin.createQueue(made, wrong), "ServiceError", /SubCode=40000/)).statusCode, 400);
    }
    await refused(admin.getQueue(made), "MessageEntityNotFoundError");
    await admin.createQueue(made);
    const properties = await admin.getQueue(made);
    for (const name of ["requiresSession", "requiresDuplicateDetection", "enablePartitioning"]) {
      await refused(admin.updateQueue({ ...properties, [name]: true }), "ServiceError", /cannot be changed/);
      assert.equal((await admin.getQueue(made))[name], false);
    }
    await refused(admin.updateQueue({ ...properties, lockDuration: "P25D" }), "ServiceError");
    assert.equal((await admin.getQueue(made)).lockDuration, "PT1M");
  });

  administering("what_a_later_version_brings_is_refused_by_name", async (s, admin, made) => {
    for (const wanted of [{ forwardTo: s.queue }, { forwardDeadLetteredMessagesTo: s.queue }]) {
      const error = await refused(admin.createQueue(made, wanted), "NotImplemented", /Forward/);
      assert.equal(error.statusCode, 501);
    }
    assert.equal((await refused(admin.createTopic(made), "NotImplemented", /topics/)).statusCode, 501);
    for await (const topic of admin.listTopics()) assert.fail(`there is a topic ${topic.name}`);
    assert.equal(await admin.topicExists(made), false);
    await refused(admin.getTopic(made), "MessageEntityNotFoundError");
    await refused(admin.getSubscription(made, "s"), "MessageEntityNotFoundError");
  });

  administering("administration_needs_a_key_that_gives_manage", async (s, admin, made) => {
    const other = administrator(s.broker, "listen-only");
    await refused(other.getQueue(made), "MessageEntityNotFoundError");
    for (const call of [
      () => other.getQueue(s.queue),
      () => other.createQueue(made),
      () => other.deleteQueue(s.queue),
      () => other.listQueues().next(),
      () => other.getNamespaceProperties(),
    ]) {
      await refused(call(), "UnauthorizedRequestError");
    }
    const stranger = administrator(s.broker, "root", { key: "bm90IHRoZSBrZXk=", name: "root" });
    await refused(stranger.getQueue(s.queue), "UnauthorizedRequestError");
    await refused(stranger.getQueue(made), "UnauthorizedRequestError");
    assert.equal((await admin.getQueue(s.queue)).name, s.queue);
  });

  administering("rules_of_a_queue_open_it_alone", async (s, admin, made) => {
    const own = rule("of-the-queue", "Manage", "Send", "Listen");
    await admin.createQueue(made, { authorizationRules: [own] });
    for (const key of [own.primaryKey, own.secondaryKey]) {
      const client = s.newClient({ key, name: "of-the-queue" });
      await sendPlain(client, made, "m1");
      const receiver = client.createReceiver(made);
      await receiver.completeMessage(await receiveOne(receiver));
      await failure(sendPlain(client, s.queue, "m1"), "UnauthorizedAccess");
    }
    await admin.updateQueue({ ...(await admin.getQueue(made)), authorizationRules: [] });
    const late = s.newClient({ key: own.primaryKey, name: "of-the-queue" });
    await failure(sendPlain(late, made, "m2"), "UnauthorizedAccess");
  });

  administering("properties_of_the_namespace_are_told", async (s, admin) => {
    const properties = await admin.getNamespaceProperties();
    assert.deepEqual([properties.name, properties.messagingSku], ["sbtest", "Standard"]);
    assert.equal(properties.messagingUnits, undefined);
    assert.ok(properties.createdAt.getUTCFullYear() > 2000 && properties.modifiedAt.getUTCFullYear() > 2000);
  });
});
