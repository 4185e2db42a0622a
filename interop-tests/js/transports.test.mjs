// TCP, TLS and WebSocket; all of them on the one port of the broker. run.sh sets NODE_EXTRA_CA_CERTS.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";
import { ServiceBusClient } from "@azure/service-bus";
import { failure, policies, receiveOne, suite } from "./harness.mjs";

const NAMESPACE_HOST = "sbtest.servicebus.windows.net";
const OTHER_HOST = "other.servicebus.windows.net";

/** A client that is told a public host name and where that host really is. */
function connect(s, { webSocket = false, host = NAMESPACE_HOST, policy = "root" } = {}) {
  const connectionString = `Endpoint=sb://${host};SharedAccessKeyName=${policy};SharedAccessKey=${policies()[policy]}`;
  const client = new ServiceBusClient(connectionString, {
    customEndpointAddress: `sb://127.0.0.1:${s.broker.port}`,
    retryOptions: { maxRetries: 0 },
    webSocketOptions: webSocket ? { webSocket: WebSocket } : undefined,
  });
  return s.track(client);
}

async function roundTrip(client, queue, size = 250 * 1024) {
  const payload = Buffer.from(Array.from({ length: size }, (_, n) => n % 256));
  await client.createSender(queue).sendMessages({ body: payload });
  const receiver = client.createReceiver(queue, { skipParsingBodyAsJson: true });
  const message = await receiveOne(receiver, 30_000);
  assert.ok(payload.equals(message.body));
  await receiver.completeMessage(message);
  await receiver.close();
}

suite("transports", (scenario) => {
  scenario("tls_with_a_trusted_certificate", async (s) => {
    assert.ok(process.env.NODE_EXTRA_CA_CERTS, "NODE_EXTRA_CA_CERTS is not set: start the suite through run.sh");
    await roundTrip(connect(s), s.queue);
    // the port of the connection string is kept, too
    const key = policies().root;
    const direct = `Endpoint=sb://localhost:${s.broker.port};SharedAccessKeyName=root;SharedAccessKey=${key}`;
    await roundTrip(s.track(new ServiceBusClient(direct)), s.queue, 256);
  });

  scenario("tls_with_an_untrusted_certificate_is_refused_by_the_client", async (s) => {
    const program = fileURLToPath(new URL("./send-one.mjs", import.meta.url));
    const env = { ...process.env };
    delete env.NODE_EXTRA_CA_CERTS;
    const address = `sb://127.0.0.1:${s.broker.port}`;
    const connectionString = `Endpoint=sb://${NAMESPACE_HOST};SharedAccessKeyName=root;SharedAccessKey=${policies().root}`;
    const child = spawn(process.execPath, [program, connectionString, address, s.queue], { env, stdio: "ignore" });
    const [code] = await once(child, "exit");
    assert.equal(code, 3);
    await roundTrip(s.client, s.queue, 256);
  });

  scenario("websocket_over_tls", async (s) => {
    await roundTrip(connect(s, { webSocket: true }), s.queue);
  });

  scenario("one_port_serves_every_transport", async (s) => {
    await roundTrip(s.client, s.queue, 256);
    await roundTrip(connect(s), s.queue, 256);
    await roundTrip(connect(s, { webSocket: true }), s.queue, 256);
    const health = await (await fetch(`http://127.0.0.1:${s.broker.port}/health`)).json();
    assert.equal(health.status, "healthy");
  });

  scenario("the_host_name_selects_the_namespace", async (s) => {
    await roundTrip(connect(s, { host: OTHER_HOST, policy: "other" }), "only_in_the_other_namespace", 256);
    await failure(roundTrip(connect(s), "only_in_the_other_namespace", 256), "MessagingEntityNotFound");
    await roundTrip(connect(s), s.queue, 256);
  });
});
