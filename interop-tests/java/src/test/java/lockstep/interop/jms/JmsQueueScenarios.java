package lockstep.interop.jms;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.DeliveryMode;
import jakarta.jms.JMSSecurityException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Session;
import jakarta.jms.StreamMessage;
import jakarta.jms.TextMessage;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.UUID;
import java.util.stream.IntStream;
import lockstep.interop.Broker;
import lockstep.interop.Certificates;
import lockstep.interop.Home;
import lockstep.interop.SasToken;
import lockstep.interop.Scenarios;
import lockstep.interop.Wait;
import org.apache.qpid.jms.JmsConnectionFactory;
import org.junit.jupiter.api.Test;

@Scenarios(client = "jms")
class JmsQueueScenarios {
    /** Qpid JMS's acknowledge mode for single messages, and its property for another outcome than accepted. */
    private static final int INDIVIDUAL_ACKNOWLEDGE = 101;
    private static final String OUTCOME = "JMS_AMQP_ACK_TYPE";
    private static final int REJECTED = 2;
    private static final int RELEASED = 3;
    private static final int MODIFIED_FAILED = 4;
    private static final int MODIFIED_FAILED_UNDELIVERABLE = 5;

    private static void settle(Message message, int outcome) throws Exception {
        message.setIntProperty(OUTCOME, outcome);
        message.acknowledge();
    }

    @Test
    void generic_send_receive_and_complete() throws Exception {
        String queue = "generic_send_receive_and_complete";
        try (Connection connection = Jms.connect("amqp.saslMechanisms=PLAIN");
                Session session = connection.createSession();
                MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            for (int number = 1; number <= 100; number++) {
                TextMessage message = session.createTextMessage("text " + number);
                message.setIntProperty("number", number);
                producer.send(message);
            }
            MessageConsumer consumer = Jms.consumer(session, queue);
            for (int number = 1; number <= 100; number++) {
                Message message = Jms.receive(consumer);
                Jms.hasText("text " + number, message);
                assertEquals(number, message.getIntProperty("number"));
                assertEquals(1, Jms.deliveries(message));
                assertFalse(message.getJMSRedelivered());
            }
        }
        Jms.nothingIsLeft(queue);
    }

    @Test
    void generic_anonymous_and_a_cbs_token() throws Exception {
        String queue = "generic_anonymous_and_a_cbs_token";
        String uri = "amqp://127.0.0.1:" + Broker.of("jms").port() + "?amqp.saslMechanisms=ANONYMOUS"
                // The answer's property names have hyphens, which JMS does not allow.
                + "&jms.validatePropertyNames=false";
        try (Connection connection = new JmsConnectionFactory(uri).createConnection();
                Session session = connection.createSession()) {
            connection.start();
            Jms.refused(() -> session.createProducer(session.createQueue(queue)), "amqp:unauthorized-access");
            Jms.refused(() -> Jms.consumer(session, queue), "amqp:unauthorized-access");

            String audience = "sb://127.0.0.1/" + queue;
            MessageConsumer answers = Jms.consumer(session, "$cbs");
            MessageProducer requests = session.createProducer(session.createQueue("$cbs"));
            TextMessage request = session.createTextMessage(SasToken.of(Home.ROOT, audience));
            request.setStringProperty("operation", "put-token");
            request.setStringProperty("type", "servicebus.windows.net:sastoken");
            request.setStringProperty("name", audience);
            request.setJMSReplyTo(session.createQueue("answers"));
            requests.send(request);
            Message answer = Jms.receive(answers);
            assertEquals(request.getJMSMessageID(), answer.getJMSCorrelationID());
            assertEquals(202, answer.getIntProperty("status-code"));

            Jms.send(session, queue, null, "with a token");
            Jms.hasText("with a token", Jms.receive(Jms.consumer(session, queue)));
        }
    }

    @Test
    void generic_every_body_kind_and_property_survives() throws Exception {
        String queue = "generic_every_body_kind_and_property_survives";
        try (Connection connection = Jms.connect("jms.deserializationPolicy.allowList=*");
                Session session = connection.createSession();
                MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            TextMessage text = session.createTextMessage("größer als ASCII: ✓");
            everyProperty(session, text);
            producer.send(text, DeliveryMode.PERSISTENT, 7, 0);
            BytesMessage bytes = session.createBytesMessage();
            bytes.writeBytes(new byte[] {0, 1, -1});
            producer.send(bytes, DeliveryMode.NON_PERSISTENT, Message.DEFAULT_PRIORITY, 0);
            MapMessage map = session.createMapMessage();
            map.setString("text", "t");
            map.setLong("long", Long.MIN_VALUE);
            map.setBytes("bytes", new byte[] {1, 2});
            producer.send(map);
            producer.send(session.createObjectMessage(new UUID(1, 2)));
            ObjectMessage typed = session.createObjectMessage();
            typed.setBooleanProperty("JMS_AMQP_TYPED_ENCODING", true);
            typed.setObject(new java.util.ArrayList<>(List.of("list", 1)));
            producer.send(typed);
            StreamMessage stream = session.createStreamMessage();
            stream.writeInt(5);
            stream.writeString("five");
            stream.writeDouble(5.5);
            producer.send(stream);
            producer.send(session.createMessage());

            MessageConsumer consumer = Jms.consumer(session, queue);
            Message received = Jms.receive(consumer);
            assertEquals("größer als ASCII: ✓", ((TextMessage) received).getText());
            hasEveryProperty(text, received);
            BytesMessage receivedBytes = (BytesMessage) Jms.receive(consumer);
            assertArrayEquals(new byte[] {0, 1, -1}, receivedBytes.getBody(byte[].class));
            assertEquals(DeliveryMode.NON_PERSISTENT, receivedBytes.getJMSDeliveryMode());
            MapMessage receivedMap = (MapMessage) Jms.receive(consumer);
            assertEquals(Set.of("text", "long", "bytes"), new HashSet<Object>(Collections.list(receivedMap.getMapNames())));
            assertEquals(Long.MIN_VALUE, receivedMap.getLong("long"));
            assertArrayEquals(new byte[] {1, 2}, receivedMap.getBytes("bytes"));
            assertEquals(new UUID(1, 2), ((ObjectMessage) Jms.receive(consumer)).getObject());
            assertEquals(List.of("list", 1), ((ObjectMessage) Jms.receive(consumer)).getObject());
            StreamMessage receivedStream = (StreamMessage) Jms.receive(consumer);
            assertEquals(5, receivedStream.readInt());
            assertEquals("five", receivedStream.readString());
            assertEquals(5.5, receivedStream.readDouble());
            Message empty = Jms.receive(consumer);
            assertFalse(empty instanceof TextMessage || empty instanceof BytesMessage || empty instanceof ObjectMessage);
        }
    }

    private static void everyProperty(Session session, Message message) throws Exception {
        message.setJMSCorrelationID("correlation");
        message.setJMSType("a type");
        message.setJMSReplyTo(session.createQueue("answers"));
        message.setStringProperty("JMSXGroupID", "a group");
        message.setIntProperty("JMSXGroupSeq", 3);
        message.setStringProperty("JMS_AMQP_REPLY_TO_GROUP_ID", "another group");
        message.setBooleanProperty("boolean", true);
        message.setByteProperty("byte", (byte) -1);
        message.setShortProperty("short", Short.MIN_VALUE);
        message.setIntProperty("int", Integer.MIN_VALUE);
        message.setLongProperty("long", Long.MAX_VALUE);
        message.setFloatProperty("float", 0.5f);
        message.setDoubleProperty("double", Math.PI);
        message.setStringProperty("string", "✓");
    }

    private static void hasEveryProperty(Message sent, Message received) throws Exception {
        assertEquals(sent.getJMSMessageID(), received.getJMSMessageID());
        assertEquals(sent.getJMSTimestamp(), received.getJMSTimestamp());
        assertEquals("correlation", received.getJMSCorrelationID());
        assertEquals("a type", received.getJMSType());
        assertEquals(sent.getJMSReplyTo(), received.getJMSReplyTo());
        assertEquals(sent.getJMSDestination(), received.getJMSDestination());
        assertEquals(7, received.getJMSPriority());
        assertEquals(DeliveryMode.PERSISTENT, received.getJMSDeliveryMode());
        assertEquals(0, received.getJMSExpiration());
        assertEquals("a group", received.getStringProperty("JMSXGroupID"));
        assertEquals(3, received.getIntProperty("JMSXGroupSeq"));
        assertEquals("another group", received.getStringProperty("JMS_AMQP_REPLY_TO_GROUP_ID"));
        for (String name : List.of("boolean", "byte", "short", "int", "long", "float", "double", "string")) {
            assertEquals(sent.getObjectProperty(name), received.getObjectProperty(name), name);
        }
    }

    @Test
    void generic_a_message_in_many_frames() throws Exception {
        String queue = "generic_a_message_in_many_frames";
        byte[] body = new byte[200_000];
        new Random(1).nextBytes(body);
        try (Connection connection = Jms.connect("amqp.maxFrameSize=4096");
                Session session = connection.createSession();
                MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            for (int number = 0; number < 3; number++) {
                BytesMessage message = session.createBytesMessage();
                message.writeBytes(body);
                producer.send(message);
            }
            MessageConsumer consumer = Jms.consumer(session, queue);
            for (int number = 0; number < 3; number++) {
                assertArrayEquals(body, Jms.receive(consumer).getBody(byte[].class));
            }
        }
    }

    @Test
    void generic_outcomes_accepted_released_modified_rejected() throws Exception {
        String queue = "generic_outcomes_accepted_released_modified_rejected";
        try (Connection connection = Jms.connect("jms.prefetchPolicy.all=0");
                Session session = connection.createSession(INDIVIDUAL_ACKNOWLEDGE)) {
            Jms.send(session, queue, null, "one", "two");
            MessageConsumer consumer = Jms.consumer(session, queue);

            Message released = Jms.receive(consumer);
            settle(released, RELEASED);
            Message again = Jms.receive(consumer);
            Jms.hasText("one", again);
            assertEquals(1, Jms.deliveries(again));
            assertFalse(again.getJMSRedelivered());

            settle(again, MODIFIED_FAILED);
            Message counted = Jms.receive(consumer);
            Jms.hasText("one", counted);
            assertEquals(2, Jms.deliveries(counted));
            assertTrue(counted.getJMSRedelivered());

            settle(counted, REJECTED);
            Message second = Jms.receive(consumer);
            Jms.hasText("two", second);
            second.acknowledge();
            Jms.nothingArrives(consumer);

            Message dead = Jms.receive(Jms.consumer(session, queue + "/$DeadLetterQueue"));
            Jms.hasText("one", dead);
            assertEquals(released.getJMSMessageID(), dead.getJMSMessageID());
            dead.acknowledge();
        }
        Jms.nothingIsLeft(queue);
    }

    @Test
    void generic_receive_and_delete() throws Exception {
        String queue = "generic_receive_and_delete";
        try (Connection connection = Jms.connect("jms.presettlePolicy.presettleConsumers=true&jms.prefetchPolicy.all=0");
                Session session = connection.createSession(Session.CLIENT_ACKNOWLEDGE)) {
            Jms.send(session, queue, null, "gone", "stays");
            Jms.hasText("gone", Jms.receive(Jms.consumer(session, queue)));
        }
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            MessageConsumer consumer = Jms.consumer(session, queue);
            Message stays = Jms.receive(consumer);
            Jms.hasText("stays", stays);
            assertEquals(1, Jms.deliveries(stays));
            Jms.nothingArrives(consumer);
        }
    }

    @Test
    void generic_a_pre_settled_send() throws Exception {
        String queue = "generic_a_pre_settled_send";
        try (Connection connection = Jms.connect("jms.presettlePolicy.presettleProducers=true");
                Session session = connection.createSession()) {
            Jms.send(session, queue, null, "one", "two", "three");
            assertEquals(List.of("one", "two", "three"), Jms.texts(Jms.consumer(session, queue), 3));
        }
    }

    @Test
    void generic_a_drain_is_answered() throws Exception {
        String queue = "generic_a_drain_is_answered";
        // Without prefetch every receive asks for one message, and takes its credit back by a drain.
        try (Connection connection = Jms.connect("jms.prefetchPolicy.all=0");
                Session session = connection.createSession()) {
            MessageConsumer consumer = Jms.consumer(session, queue);
            assertNull(consumer.receiveNoWait());
            assertNull(consumer.receive(200));
            Jms.send(session, queue, null, "one", "two");
            Jms.hasText("one", consumer.receiveNoWait());
            Jms.hasText("two", consumer.receiveNoWait());
            assertNull(consumer.receiveNoWait());
            Jms.send(session, queue, null, "three");
            Jms.hasText("three", Jms.receive(consumer));
        }
    }

    @Test
    void generic_credit_is_kept_to() throws Exception {
        String queue = "generic_credit_is_kept_to";
        try (Connection connection = Jms.connect("jms.prefetchPolicy.all=5");
                Connection other = Jms.connect();
                Session session = connection.createSession(Session.CLIENT_ACKNOWLEDGE);
                Session rest = other.createSession(Session.CLIENT_ACKNOWLEDGE)) {
            String[] texts = IntStream.rangeClosed(1, 12).mapToObj(Integer::toString).toArray(String[]::new);
            Jms.send(session, queue, null, texts);
            MessageConsumer five = Jms.consumer(session, queue);
            Jms.hasText("1", Jms.receive(five));
            // Whatever the first does not have room for is the other's.
            MessageConsumer others = Jms.consumer(rest, queue);
            Set<String> seen = new HashSet<>(List.of("1"));
            List<String> taken = Jms.texts(others, 6);
            seen.addAll(taken);
            Message more = others.receive(Wait.NOTHING_MS);
            if (more != null) {
                seen.add(more.getBody(String.class));
                Jms.nothingArrives(others);
            }
            while (seen.size() < 12) {
                assertTrue(seen.add(Jms.receive(five).getBody(String.class)));
            }
        }
    }

    @Test
    void generic_a_plain_receiver_shares_with_another() throws Exception {
        String queue = "generic_a_plain_receiver_shares_with_another";
        List<String> seen = Collections.synchronizedList(new java.util.ArrayList<>());
        try (Connection first = Jms.connect("jms.prefetchPolicy.all=1");
                Connection second = Jms.connect("jms.prefetchPolicy.all=1");
                Session sends = first.createSession()) {
            Set<Integer> receivers = Collections.synchronizedSet(new HashSet<>());
            for (Connection connection : List.of(first, second)) {
                // A listener's AMQP session is its own.
                Jms.consumer(connection.createSession(), queue).setMessageListener(message -> {
                    receivers.add(System.identityHashCode(connection));
                    try {
                        seen.add(message.getBody(String.class));
                    } catch (jakarta.jms.JMSException unreadable) {
                        seen.add(unreadable.toString());
                    }
                });
            }
            String[] texts = IntStream.rangeClosed(1, 200).mapToObj(Integer::toString).toArray(String[]::new);
            Jms.send(sends, queue, null, texts);
            Wait.until("200 messages", Wait.DELIVERY_MS, () -> seen.size() >= 200);
            assertEquals(2, receivers.size());
        }
        assertEquals(200, new HashSet<>(seen).size());
        assertEquals(200, seen.size());
        Jms.nothingIsLeft(queue);
    }

    @Test
    void generic_peek_by_management() throws Exception {
        String queue = "generic_peek_by_management";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            Jms.send(session, queue, null, "one", "two");
            MapMessage request = session.createMapMessage();
            request.setLong("from-sequence-number", 0);
            request.setInt("message-count", 10);
            Map<?, ?> answer = Snippets.request(session, queue, "com.microsoft:peek-message", request);
            List<?> messages = (List<?>) answer.get("messages");
            assertEquals(2, messages.size());
            for (Object message : messages) {
                assertTrue(((Map<?, ?>) message).get("message") != null, "an encoded message");
            }
            // Peeking took nothing.
            assertEquals(List.of("one", "two"), Jms.texts(Jms.consumer(session, queue), 2));
        }
    }

    @Test
    void generic_deferring_by_disposition() throws Exception {
        String queue = "generic_deferring_by_disposition";
        try (Connection connection = Jms.connect("jms.prefetchPolicy.all=0");
                Session session = connection.createSession(INDIVIDUAL_ACKNOWLEDGE)) {
            Jms.send(session, queue, null, "one", "two");
            MessageConsumer consumer = Jms.consumer(session, queue);
            settle(Jms.receive(consumer), MODIFIED_FAILED_UNDELIVERABLE);
            Message next = Jms.receive(consumer);
            Jms.hasText("two", next);
            next.acknowledge();
            // It does not come again, though it is there.
            Jms.nothingArrives(consumer);
            MapMessage peek = session.createMapMessage();
            peek.setLong("from-sequence-number", 1);
            peek.setInt("message-count", 10);
            Map<?, ?> answer = Snippets.request(session, queue, "com.microsoft:peek-message", peek);
            assertEquals(1, ((List<?>) answer.get("messages")).size());
        }
    }

    private static Connection external(String certificate) throws Exception {
        String uri = "amqps://127.0.0.1:" + Broker.of("jms").port() + "?amqp.saslMechanisms=EXTERNAL";
        JmsConnectionFactory factory = new JmsConnectionFactory(uri);
        factory.setSslContext(Certificates.context(certificate));
        Connection connection = factory.createConnection();
        connection.start();
        return connection;
    }

    @Test
    void generic_external_by_client_certificate() throws Exception {
        String queue = "generic_external_by_client_certificate";
        try (Connection connection = external("client");
                Session session = connection.createSession()) {
            Jms.send(session, queue, null, "one");
            Jms.hasText("one", Jms.receive(Jms.consumer(session, queue)));
        }
        assertThrows(JMSSecurityException.class, () -> external("stranger"));
    }
}
