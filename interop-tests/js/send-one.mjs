// node send-one.mjs CONNECTION_STRING ENDPOINT_ADDRESS QUEUE
// Ends with 0 when the message was accepted and with 3 when sending failed.
import { ServiceBusClient } from "@azure/service-bus";

const [connectionString, customEndpointAddress, queue] = process.argv.slice(2);
const retryOptions = { maxRetries: 0, timeoutInMs: 10_000 };
const client = new ServiceBusClient(connectionString, { customEndpointAddress, retryOptions });
const code = await client.createSender(queue).sendMessages({ body: "m" }).then(() => 0, () => 3);
process.exit(code);
