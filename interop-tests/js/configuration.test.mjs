// --dev and its well-known credential. (The emulator's configuration file is the subject of the Python suite.)
import assert from "node:assert/strict";
import { failure, receiveOne, sendPlain, suite } from "./harness.mjs";

const WELL_KNOWN = { name: "RootManageSharedAccessKey", key: "SAS_KEY_VALUE" };

suite("configuration", (scenario) => {
  scenario("the_well_known_credential_opens_dev", async (s) => {
    const broker = await s.ownBroker({ options: ["--dev"], certificate: false });
    const client = s.newClient({ broker, ...WELL_KNOWN });
    await sendPlain(client, s.queue, "m1");
    assert.equal((await receiveOne(client.createReceiver(s.queue))).body, "m1");
  });

  scenario("the_well_known_credential_is_refused_without_dev", async (s) => {
    await failure(sendPlain(s.newClient(WELL_KNOWN), s.queue, "m1"), "UnauthorizedAccess");
  });
});
