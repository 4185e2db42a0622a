// node hold-message-session.mjs CONNECTION_STRING QUEUE
// Holds the message session "s" with one received message until it is killed.
import { ServiceBusClient } from "@azure/service-bus";

const [connectionString, queue] = process.argv.slice(2);
const client = new ServiceBusClient(connectionString);
const receiver = await client.acceptSession(queue, "s", { maxAutoLockRenewalDurationInMs: 0 });
const messages = await receiver.receiveMessages(1, { maxWaitTimeInMs: 20_000 });
console.log(JSON.stringify(messages.map((message) => message.body)));
setInterval(() => {}, 1000);
