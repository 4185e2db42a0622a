// Who may do what.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import { ServiceBusClient } from "@azure/service-bus";
import { bodies, failure, policies, receiveOne, sendPlain, suite } from "./harness.mjs";

function token(resource, policy, expiresInS) {
  const expiry = Math.floor(Date.now() / 1000) + expiresInS;
  const encoded = encodeURIComponent(resource);
  const digest = crypto.createHmac("sha256", policies()[policy]).update(`${encoded}\n${expiry}`).digest("base64");
  return `SharedAccessSignature sr=${encoded}&sig=${encodeURIComponent(digest)}&se=${expiry}&skn=${policy}`;
}

function clientWithToken(s, readyMade) {
  const connectionString =
    `Endpoint=sb://127.0.0.1:${s.broker.port};SharedAccessSignature=${readyMade};UseDevelopmentEmulator=true`;
  return s.track(new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0 } }));
}

suite("access", (scenario) => {
  scenario("a_bad_key_is_refused", async (s) => {
    const client = s.newClient({ key: "bm90IHRoZSBrZXk=" });
    await failure(sendPlain(client, s.queue, "m1"), "UnauthorizedAccess");
    const receiving = client.createReceiver(s.queue).receiveMessages(1, { maxWaitTimeInMs: 5000 });
    await failure(receiving, "UnauthorizedAccess");
  });

  scenario("an_unknown_policy_is_refused", async (s) => {
    await failure(sendPlain(s.newClient({ name: "nobody" }), s.queue, "m1"), "UnauthorizedAccess");
  });

  scenario("the_secondary_key_opens_the_namespace", async (s) => {
    const client = s.newClient({ policy: "root.secondary" });
    await sendPlain(client, s.queue, "m1");
    const receiver = client.createReceiver(s.queue);
    await receiver.completeMessage(await receiveOne(receiver));
  });

  scenario("a_listen_only_key_cannot_send", async (s) => {
    await sendPlain(s.client, s.queue, "m1");
    const listener = s.newClient({ policy: "listen-only" });
    const error = await failure(sendPlain(listener, s.queue, "m2"), "UnauthorizedAccess");
    assert.match(error.message, /'Send' claim/);
    const receiver = listener.createReceiver(s.queue);
    assert.deepEqual(bodies(await receiver.peekMessages(10)), ["m1"]);
    await receiver.completeMessage(await receiveOne(receiver));
  });

  scenario("a_send_only_key_cannot_receive", async (s) => {
    const speaker = s.newClient({ policy: "send-only" });
    await sendPlain(speaker, s.queue, "m1");
    const receiving = speaker.createReceiver(s.queue).receiveMessages(1, { maxWaitTimeInMs: 5000 });
    assert.match((await failure(receiving, "UnauthorizedAccess")).message, /'Listen' claim/);
    await sendPlain(speaker, s.queue, "m2");
    assert.deepEqual(bodies(await s.client.createReceiver(s.queue).peekMessages(10)), ["m1", "m2"]);
  });

  scenario("a_queue_policy_opens_only_its_queue", async (s) => {
    const client = s.newClient({ policy: "queue-policy" });
    await sendPlain(client, s.queue, "m1");
    assert.equal((await receiveOne(client.createReceiver(s.queue))).body, "m1");
    await failure(sendPlain(client, "send_receive_complete", "m2"), "UnauthorizedAccess");
  });

  scenario("a_ready_made_token_opens_the_namespace", async (s) => {
    const root = `sb://127.0.0.1:${s.broker.port}/`;
    const client = clientWithToken(s, token(root, "root", 300));
    await sendPlain(client, s.queue, "m1");
    const receiver = client.createReceiver(s.queue);
    await receiver.completeMessage(await receiveOne(receiver));
    await failure(sendPlain(clientWithToken(s, token(`${root}some-other-queue`, "root", 300)), s.queue, "m2"));
  });

  scenario("an_expired_token_is_refused", async (s) => {
    const expired = token(`sb://127.0.0.1:${s.broker.port}/`, "root", -60);
    const error = await failure(sendPlain(clientWithToken(s, expired), s.queue, "m1"), "UnauthorizedAccess");
    assert.match(error.message, /ExpiredToken/);
  });
});
