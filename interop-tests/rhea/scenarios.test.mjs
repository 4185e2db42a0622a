// Every scenario of the suite, against one broker.
import { after, describe } from "node:test";
import { Broker, scenarios } from "./harness.mjs";
import { messageSessions } from "./message-sessions.mjs";
import { queues } from "./queues.mjs";

// Scenarios mostly wait; this many wait at the same time.
const SCENARIOS_AT_ONCE = 8;

let broker;
const shared = () => (broker ??= Broker.start());
after(async () => (await broker)?.dispose());

const scenario = scenarios(shared);
describe("queues", { concurrency: SCENARIOS_AT_ONCE }, () => queues(scenario));
describe("message sessions", { concurrency: SCENARIOS_AT_ONCE }, () => messageSessions(scenario));
