package lockstep.interop.protonj2;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import lockstep.interop.Certificates;
import lockstep.interop.Home;
import lockstep.interop.SasToken;
import lockstep.interop.Scenarios;
import lockstep.interop.Wait;
import org.apache.qpid.protonj2.client.AdvancedMessage;
import org.apache.qpid.protonj2.client.Connection;
import org.apache.qpid.protonj2.client.ConnectionOptions;
import org.apache.qpid.protonj2.client.Delivery;
import org.apache.qpid.protonj2.client.DeliveryMode;
import org.apache.qpid.protonj2.client.DeliveryState;
import org.apache.qpid.protonj2.client.Message;
import org.apache.qpid.protonj2.client.Receiver;
import org.apache.qpid.protonj2.client.Sender;
import org.apache.qpid.protonj2.client.SenderOptions;
import org.apache.qpid.protonj2.client.Tracker;
import org.apache.qpid.protonj2.client.exceptions.ClientConnectionSecuritySaslException;
import org.apache.qpid.protonj2.types.Binary;
import org.apache.qpid.protonj2.types.Symbol;
import org.apache.qpid.protonj2.types.UnsignedByte;
import org.apache.qpid.protonj2.types.UnsignedInteger;
import org.apache.qpid.protonj2.types.UnsignedLong;
import org.apache.qpid.protonj2.types.UnsignedShort;
import org.apache.qpid.protonj2.types.messaging.AmqpSequence;
import org.apache.qpid.protonj2.types.messaging.AmqpValue;
import org.apache.qpid.protonj2.types.messaging.Data;
import org.apache.qpid.protonj2.types.messaging.Section;
import org.junit.jupiter.api.Test;

@Scenarios(client = "protonj2")
class ProtonQueueScenarios {
    @Test
    void generic_send_receive_and_complete() throws Exception {
        String queue = "generic_send_receive_and_complete";
        try (Connection connection = Proton.connect();
                Sender sender = connection.openSender(queue)) {
            for (int number = 1; number <= 100; number++) {
                Tracker tracker = sender.send(Message.create("text " + number).property("number", number));
                assertTrue(tracker.awaitSettlement(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS).remoteState().isAccepted());
            }
            Receiver receiver = Proton.receiver(connection, queue, Proton.options(10));
            for (int number = 1; number <= 100; number++) {
                Delivery delivery = Proton.receive(receiver);
                assertEquals("text " + number, Proton.text(delivery));
                assertEquals(number, delivery.message().property("number"));
                assertEquals(0, delivery.message().deliveryCount());
                delivery.accept();
            }
        }
        Proton.nothingIsLeft(queue);
    }

    @Test
    void generic_anonymous_and_a_cbs_token() throws Exception {
        String queue = "generic_anonymous_and_a_cbs_token";
        ConnectionOptions options = new ConnectionOptions();
        options.saslOptions().addAllowedMechanism("ANONYMOUS");
        try (Connection connection = Proton.connect(options)) {
            Proton.refused("amqp:unauthorized-access", () -> connection.openSender(queue).openFuture().get());
            Proton.refused("amqp:unauthorized-access", () -> Proton.receiver(connection, queue, Proton.options(1)));

            String audience = "sb://127.0.0.1/" + queue;
            try (Receiver answers = connection.openReceiver("$cbs");
                    Sender requests = connection.openSender("$cbs")) {
                Message<String> request = Message.create(SasToken.of(Home.ROOT, audience));
                request.messageId(new UnsignedLong(7)).replyTo("$cbs");
                request.property("operation", "put-token").property("name", audience);
                requests.send(request.property("type", "servicebus.windows.net:sastoken"));
                Message<Object> answer = Proton.receive(answers).message();
                assertEquals(new UnsignedLong(7), answer.correlationId());
                assertEquals(202, answer.property("status-code"));
            }
            Proton.send(connection, queue, null, "with a token");
            assertEquals(List.of("with a token"), Proton.accepted(Proton.receiver(connection, queue, Proton.options(1)), 1));
        }
    }

    @Test
    void generic_every_body_kind_and_property_survives() throws Exception {
        String queue = "generic_every_body_kind_and_property_survives";
        List<List<Section<?>>> bodies = new ArrayList<>();
        bodies.add(List.of(new Data(new byte[] {0, 1, -1})));
        bodies.add(List.of(new Data(new byte[] {1}), new Data(new byte[] {2})));
        bodies.add(List.of(new AmqpSequence<>(List.of("one", 2)), new AmqpSequence<>(List.of(3L))));
        Object[] values = {
            "text", true, (byte) -1, (short) -2, -3, Long.MIN_VALUE, 0.5f, Math.PI, 'z', new UUID(1, 2),
            UnsignedByte.valueOf((byte) -1), UnsignedShort.valueOf((short) -1),
            UnsignedInteger.valueOf(-1), UnsignedLong.valueOf(-1L), Symbol.valueOf("symbol"), new Binary(new byte[] {9}),
            List.of("nested", List.of(1)), Map.of("key", Map.of("inner", 1L)), null
        };
        for (Object value : values) {
            bodies.add(List.of(new AmqpValue<>(value)));
        }
        Map<String, Object> properties = new LinkedHashMap<>();
        for (int number = 0; number < 16; number++) {
            properties.put("p" + number, values[number]);
        }
        properties.put("null", null);

        try (Connection connection = Proton.connect();
                Sender sender = connection.openSender(queue);
                Receiver receiver = Proton.receiver(connection, queue, Proton.options(10))) {
            for (List<Section<?>> sections : bodies) {
                AdvancedMessage<Object> message = AdvancedMessage.create();
                message.bodySections(sections);
                everyProperty(message);
                properties.forEach((name, value) -> set(message, name, value));
                sender.send(message).awaitAccepted(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);

                Delivery delivery = Proton.receive(receiver);
                AdvancedMessage<Object> received = delivery.message().toAdvancedMessage();
                hasEveryProperty(received);
                Map<String, Object> seen = new LinkedHashMap<>();
                received.forEachProperty(seen::put);
                assertEquals(properties, seen);
                assertEquals(texts(sections), texts(received.bodySections()));
                assertEquals("footer value", received.footer("a-footer"));
                delivery.accept();
            }
        }
    }

    private static void set(Message<?> message, String name, Object value) {
        try {
            message.property(name, value);
        } catch (org.apache.qpid.protonj2.client.exceptions.ClientException failed) {
            throw new AssertionError(failed);
        }
    }

    /** Sections in a form that can be compared: their kind, and type and text of what is in them. */
    private static List<String> texts(Iterable<? extends Section<?>> sections) {
        List<String> texts = new ArrayList<>();
        for (Section<?> section : sections) {
            Object value = section.getValue();
            String type = value instanceof List ? "list" : value instanceof Map ? "map"
                    : value == null ? "null" : value.getClass().getSimpleName();
            Object shown = value instanceof byte[] bytes ? Arrays.toString(bytes) : value;
            texts.add(section.getType() + " " + type + " " + shown);
        }
        return texts;
    }

    private static void everyProperty(Message<?> message) throws Exception {
        message.durable(true).priority((byte) 7);
        message.messageId(new UUID(3, 4)).userId(new byte[] {5}).to("somewhere").subject("a subject");
        message.replyTo("answers").correlationId(new UnsignedLong(6)).contentType("text/plain");
        message.contentEncoding("identity");
        message.creationTime(1_700_000_000_000L).groupId("a group").groupSequence(8).replyToGroupId("another");
        message.annotation("x-opt-own", "kept").footer("a-footer", "footer value");
    }

    private static void hasEveryProperty(Message<?> message) throws Exception {
        assertTrue(message.durable());
        assertEquals(7, message.priority());
        assertEquals(new UUID(3, 4), message.messageId());
        assertArrayEquals(new byte[] {5}, message.userId());
        assertEquals("somewhere", message.to());
        assertEquals("a subject", message.subject());
        assertEquals("answers", message.replyTo());
        assertEquals(new UnsignedLong(6), message.correlationId());
        assertEquals("text/plain", message.contentType());
        assertEquals("identity", message.contentEncoding());
        assertEquals(1_700_000_000_000L, message.creationTime());
        assertEquals("a group", message.groupId());
        assertEquals(8, message.groupSequence());
        assertEquals("another", message.replyToGroupId());
        assertEquals("kept", message.annotation("x-opt-own"));
        assertNotNull(message.annotation("x-opt-sequence-number"));
        assertNotNull(message.annotation("x-opt-enqueued-time"));
    }

    @Test
    void generic_a_message_in_many_frames() throws Exception {
        String queue = "generic_a_message_in_many_frames";
        byte[] body = new byte[200_000];
        new Random(2).nextBytes(body);
        try (Connection connection = Proton.connect(Proton.plain().maxFrameSize(1024));
                Sender sender = connection.openSender(queue)) {
            for (int number = 0; number < 3; number++) {
                sender.send(Message.create(body)).awaitAccepted(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);
            }
            Receiver receiver = Proton.receiver(connection, queue, Proton.options(3));
            for (int number = 0; number < 3; number++) {
                Delivery delivery = Proton.receive(receiver);
                assertArrayEquals(body, delivery.<byte[]>message().body());
                delivery.accept();
            }
        }
        Proton.nothingIsLeft(queue);
    }

    @Test
    void generic_outcomes_accepted_released_modified_rejected() throws Exception {
        String queue = "generic_outcomes_accepted_released_modified_rejected";
        try (Connection connection = Proton.connect()) {
            Proton.send(connection, queue, null, "one", "two");
            Receiver receiver = Proton.receiver(connection, queue, Proton.options(0));
            Object id = take(receiver, "one", 0, Delivery::release);
            assertEquals(id, take(receiver, "one", 0, delivery -> delivery.modified(true, false)));
            assertEquals(id, take(receiver, "one", 1, delivery ->
                    delivery.disposition(DeliveryState.modified(true, false, Map.of("tried", "twice")), true)));
            assertEquals(id, take(receiver, "one", 2, delivery -> {
                assertEquals("twice", delivery.message().property("tried"));
                delivery.reject("com.example:bad", "cannot be read");
            }));
            take(receiver, "two", 0, Delivery::accept);
            receiver.addCredit(1);
            Proton.nothingArrives(receiver);

            Receiver dead = Proton.receiver(connection, queue + "/$DeadLetterQueue", Proton.options(1));
            Delivery delivery = Proton.receive(dead);
            assertEquals(id, delivery.message().messageId());
            // A reason is what Service Bus clients put into the error's info, for which this client has no room.
            assertNull(delivery.message().property("DeadLetterReason"));
            assertEquals("twice", delivery.message().property("tried"));
            delivery.accept();
        }
        Proton.nothingIsLeft(queue);
    }

    private interface Settle {
        void delivery(Delivery delivery) throws Exception;
    }

    /** Receives one message, settles it, and gives its id. */
    private static Object take(Receiver receiver, String text, long count, Settle settle) throws Exception {
        receiver.addCredit(1);
        Delivery delivery = Proton.receive(receiver);
        assertEquals(text, Proton.text(delivery));
        assertEquals(count, delivery.message().deliveryCount());
        settle.delivery(delivery);
        return delivery.message().messageId();
    }

    @Test
    void generic_receive_and_delete() throws Exception {
        String queue = "generic_receive_and_delete";
        try (Connection connection = Proton.connect()) {
            Proton.send(connection, queue, null, "gone", "stays");
            Receiver receiver = Proton.receiver(connection, queue, Proton.receiveAndDelete(0));
            receiver.addCredit(1);
            Delivery delivery = Proton.receive(receiver);
            assertEquals("gone", Proton.text(delivery));
            assertTrue(delivery.remoteSettled());
            receiver.close();
            assertEquals(List.of("stays"), Proton.accepted(Proton.receiver(connection, queue, Proton.options(1)), 1));
        }
        Proton.nothingIsLeft(queue);
    }

    @Test
    void generic_a_pre_settled_send() throws Exception {
        String queue = "generic_a_pre_settled_send";
        try (Connection connection = Proton.connect();
                Sender sender = connection.openSender(queue, new SenderOptions().deliveryMode(DeliveryMode.AT_MOST_ONCE))) {
            for (String text : List.of("one", "two", "three")) {
                sender.send(Message.create(text));
            }
            Receiver receiver = Proton.receiver(connection, queue, Proton.options(3));
            assertEquals(List.of("one", "two", "three"), Proton.accepted(receiver, 3));
        }
    }

    @Test
    void generic_a_drain_is_answered() throws Exception {
        String queue = "generic_a_drain_is_answered";
        try (Connection connection = Proton.connect();
                Receiver receiver = Proton.receiver(connection, queue, Proton.options(0))) {
            receiver.addCredit(10);
            receiver.drain().get(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);
            assertEquals(0, receiver.queuedDeliveries());
            // The credit is used up: nothing comes without more.
            Proton.send(connection, queue, null, "one", "two");
            Proton.nothingArrives(receiver);
            receiver.addCredit(10);
            receiver.drain().get(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);
            assertEquals(2, receiver.queuedDeliveries());
            assertEquals(List.of("one", "two"), Proton.accepted(receiver, 2));
        }
    }

    @Test
    void generic_credit_is_kept_to() throws Exception {
        String queue = "generic_credit_is_kept_to";
        try (Connection connection = Proton.connect();
                Receiver receiver = Proton.receiver(connection, queue, Proton.options(0))) {
            String[] texts = IntStream.rangeClosed(1, 10).mapToObj(Integer::toString).toArray(String[]::new);
            Proton.send(connection, queue, null, texts);
            Proton.nothingArrives(receiver);
            receiver.addCredit(3);
            assertEquals(List.of("1", "2", "3"), Proton.accepted(receiver, 3));
            Proton.nothingArrives(receiver);
            receiver.addCredit(2);
            receiver.addCredit(2);
            assertEquals(List.of("4", "5", "6", "7"), Proton.accepted(receiver, 4));
            Proton.nothingArrives(receiver);
        }
    }

    @Test
    void generic_a_plain_receiver_shares_with_another() throws Exception {
        String queue = "generic_a_plain_receiver_shares_with_another";
        try (Connection first = Proton.connect();
                Connection second = Proton.connect()) {
            List<Receiver> receivers = List.of(
                    Proton.receiver(first, queue, Proton.options(1)), Proton.receiver(second, queue, Proton.options(1)));
            String[] texts = IntStream.rangeClosed(1, 100).mapToObj(Integer::toString).toArray(String[]::new);
            Proton.send(first, queue, null, texts);
            Set<String> seen = new HashSet<>();
            int[] shares = new int[receivers.size()];
            // Each has credit for one at a time, so both get some; which gets the last one is open.
            long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(Wait.DELIVERY_MS);
            while (seen.size() < 100) {
                assertTrue(System.nanoTime() < end, "only " + seen.size() + " in time");
                for (int n = 0; n < shares.length; n++) {
                    Delivery delivery = receivers.get(n).receive(10, TimeUnit.MILLISECONDS);
                    if (delivery != null) {
                        assertTrue(seen.add(Proton.text(delivery)));
                        delivery.accept();
                        shares[n]++;
                    }
                }
            }
            assertTrue(Math.min(shares[0], shares[1]) >= 25, shares[0] + " and " + shares[1]);
        }
        Proton.nothingIsLeft(queue);
    }

    @Test
    void generic_deferring_by_disposition() throws Exception {
        String queue = "generic_deferring_by_disposition";
        try (Connection connection = Proton.connect();
                Receiver receiver = Proton.receiver(connection, queue, Proton.options(0))) {
            Proton.send(connection, queue, null, "one", "two");
            receiver.addCredit(1);
            Delivery delivery = Proton.receive(receiver);
            delivery.disposition(DeliveryState.modified(false, true), false);
            Wait.until("an answer", Wait.DELIVERY_MS, delivery::remoteSettled);
            assertEquals(DeliveryState.Type.MODIFIED, delivery.remoteState().getType());
            receiver.addCredit(2);
            assertEquals(List.of("two"), Proton.accepted(receiver, 1));
            // It does not come again; its number finds it.
            assertNull(receiver.tryReceive());
            long number = (long) delivery.message().annotation("x-opt-sequence-number");
            Map<String, Object> wanted = Map.of(
                    "sequence-numbers", new long[] {number}, "receiver-settle-mode", UnsignedInteger.valueOf(1));
            Map<String, Object> answer =
                    Snippets.request(connection, queue, "com.microsoft:receive-by-sequence-number", wanted);
            Map<?, ?> entry = (Map<?, ?>) ((List<?>) answer.get("messages")).get(0);
            assertTrue(entry.get("message") instanceof Binary);
            Snippets.request(connection, queue, "com.microsoft:update-disposition", Map.of(
                    "disposition-status", "completed", "lock-tokens", new UUID[] {(UUID) entry.get("lock-token")}));
        }
        Proton.nothingIsLeft(queue);
    }

    @Test
    void generic_peek_by_management() throws Exception {
        String queue = "generic_peek_by_management";
        try (Connection connection = Proton.connect()) {
            Proton.send(connection, queue, null, "one", "two");
            Map<String, Object> answer = Snippets.request(connection, queue, "com.microsoft:peek-message",
                    Map.of("from-sequence-number", 0L, "message-count", 10));
            List<?> messages = (List<?>) answer.get("messages");
            assertEquals(2, messages.size());
            for (Object message : messages) {
                assertTrue(((Map<?, ?>) message).get("message") instanceof Binary);
            }
            assertEquals(List.of("one", "two"), Proton.accepted(Proton.receiver(connection, queue, Proton.options(2)), 2));
        }
    }

    @Test
    void generic_a_message_lock_is_renewed_by_management() throws Exception {
        String queue = "generic_a_message_lock_is_renewed_by_management";
        try (Connection connection = Proton.connect();
                Connection other = Proton.connect()) {
            Proton.send(connection, queue, null, "one");
            Receiver receiver = Proton.receiver(connection, queue, Proton.options(0));
            receiver.addCredit(1);
            Delivery delivery = Proton.receive(receiver);
            UUID token = (UUID) delivery.annotations().get("x-opt-lock-token");
            Receiver waits = Proton.receiver(other, queue, Proton.options(1));
            // The lock lasts five seconds; it is kept for eight.
            for (int second = 0; second < 4; second++) {
                Wait.forTimeToPass(2_000);
                Map<String, Object> answer = Snippets.request(connection, queue, "com.microsoft:renew-lock",
                        Map.of("lock-tokens", new UUID[] {token}));
                Object expirations = answer.get("expirations");
                assertTrue((long) ((Object[]) expirations)[0] > System.currentTimeMillis());
                assertNull(waits.tryReceive());
            }
            delivery.accept();
        }
        Proton.nothingIsLeft(queue);
    }

    private static Connection external(String certificate) throws Exception {
        ConnectionOptions options = new ConnectionOptions();
        options.saslOptions().addAllowedMechanism("EXTERNAL");
        options.sslOptions().sslEnabled(true).sslContextOverride(Certificates.context(certificate));
        Connection connection = Proton.connect(options);
        connection.openFuture().get(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);
        return connection;
    }

    @Test
    void generic_external_by_client_certificate() throws Exception {
        String queue = "generic_external_by_client_certificate";
        try (Connection connection = external("client")) {
            Proton.send(connection, queue, null, "one");
            assertEquals(List.of("one"), Proton.accepted(Proton.receiver(connection, queue, Proton.options(1)), 1));
        }
        ExecutionException refused = assertThrows(ExecutionException.class, () -> external("stranger"));
        assertInstanceOf(ClientConnectionSecuritySaslException.class, refused.getCause());
    }
}
