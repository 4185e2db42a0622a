package lockstep.interop.jms;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import jakarta.jms.Connection;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Session;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import lockstep.interop.Scenarios;
import lockstep.interop.Wait;
import org.junit.jupiter.api.Test;

@Scenarios(client = "jms")
class JmsMessageSessionScenarios {
    private static final String HELD = "com.microsoft:session-cannot-be-locked";

    @Test
    void generic_session_by_jms_selector() throws Exception {
        String queue = "generic_session_by_jms_selector";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            Snippets.send(session, queue, "other", "not for us");
            Snippets.send(session, queue, "it's wanted", "one");
            Snippets.send(session, queue, "it's wanted", "two");
            MessageConsumer consumer = Snippets.acceptById(session, queue, "it's wanted");
            for (String text : List.of("one", "two")) {
                Message message = Jms.receive(consumer);
                Jms.hasText(text, message);
                assertEquals("it's wanted", message.getStringProperty("JMSXGroupID"));
            }
            Jms.nothingArrives(consumer);
        }
    }

    @Test
    void generic_session_next_by_jms_selector() throws Exception {
        String queue = "generic_session_next_by_jms_selector";
        try (Connection connection = Jms.connect();
                Connection other = Jms.connect();
                Session session = connection.createSession();
                Session waiting = other.createSession()) {
            Snippets.send(session, queue, "first", "one");
            MessageConsumer first = Snippets.acceptNext(session, queue);
            Message message = Jms.receive(first);
            Jms.hasText("one", message);
            assertEquals("first", message.getStringProperty("JMSXGroupID"));
            // The next one is pending until there is another id.
            CompletableFuture<MessageConsumer> pending = CompletableFuture.supplyAsync(() -> {
                try {
                    return Snippets.acceptNext(waiting, queue);
                } catch (jakarta.jms.JMSException failed) {
                    throw new IllegalStateException(failed);
                }
            });
            Snippets.send(session, queue, "first", "more");
            Jms.hasText("more", Jms.receive(first));
            Snippets.send(session, queue, "second", "two");
            Message second = Jms.receive(pending.get(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS));
            Jms.hasText("two", second);
            assertEquals("second", second.getStringProperty("JMSXGroupID"));
        }
    }

    @Test
    void generic_session_held_elsewhere_is_refused() throws Exception {
        String queue = "generic_session_held_elsewhere_is_refused";
        try (Connection connection = Jms.connect();
                Connection other = Jms.connect();
                Session session = connection.createSession();
                Session others = other.createSession()) {
            MessageConsumer holder = Snippets.acceptById(session, queue, "held");
            Jms.refused(() -> Snippets.acceptById(others, queue, "held"), HELD);
            Jms.refused(() -> Jms.consumer(others, queue), "amqp:not-allowed");
            holder.close();
            Snippets.acceptById(others, queue, "held").close();
        }
    }

    @Test
    void generic_session_messages_come_in_order() throws Exception {
        String queue = "generic_session_messages_come_in_order";
        try (Connection connection = Jms.connect();
                Session sends = connection.createSession();
                Session session = connection.createSession(Session.CLIENT_ACKNOWLEDGE)) {
            for (int number = 1; number <= 30; number++) {
                Snippets.send(sends, queue, "a", "a" + number);
                Snippets.send(sends, queue, "b", "b" + number);
            }
            for (String id : List.of("a", "b")) {
                MessageConsumer consumer = Snippets.acceptById(session, queue, id);
                for (int number = 1; number <= 30; number++) {
                    Message message = Jms.receive(consumer);
                    Jms.hasText(id + number, message);
                    assertEquals(id, message.getStringProperty("JMSXGroupID"));
                    message.acknowledge();
                }
                consumer.close();
            }
        }
    }

    @Test
    void generic_session_lock_is_renewed_by_management() throws Exception {
        String queue = "generic_session_lock_is_renewed_by_management";
        try (Connection connection = Jms.connect();
                Connection other = Jms.connect();
                Session session = connection.createSession();
                Session others = other.createSession()) {
            Snippets.send(session, queue, "renewed", "one");
            MessageConsumer holder = Snippets.acceptById(session, queue, "renewed");
            // The lock lasts five seconds; it is kept for eight.
            for (int number = 0; number < 4; number++) {
                Wait.forTimeToPass(2_000);
                Snippets.renew(session, queue, "renewed");
            }
            Jms.refused(() -> Snippets.acceptById(others, queue, "renewed"), HELD);
            Jms.refused(() -> Snippets.renew(others, queue, "renewed"), "lock");
            Jms.hasText("one", Jms.receive(holder));
        }
    }

    @Test
    void generic_session_state_by_management() throws Exception {
        String queue = "generic_session_state_by_management";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            MessageConsumer holder = Snippets.acceptById(session, queue, "with state");
            assertNull(Snippets.getState(session, queue, "with state"));
            Snippets.setState(session, queue, "with state", new byte[] {1, 2, 3});
            Object state = Snippets.getState(session, queue, "with state");
            assertTrue(String.valueOf(state).endsWith("\\x01\\x02\\x03"), () -> "" + state);
            holder.close();
            Snippets.acceptById(session, queue, "with state");
            assertEquals(state, Snippets.getState(session, queue, "with state"));
            Snippets.setState(session, queue, "with state", null);
            assertNull(Snippets.getState(session, queue, "with state"));
        }
    }

    @Test
    void jms_a_closed_consumer_frees_its_message_session() throws Exception {
        String queue = "jms_a_closed_consumer_frees_its_message_session";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            for (String text : List.of("one", "two", "three")) {
                Snippets.send(session, queue, "turns", text);
            }
            // What was prefetched and not received comes back at once, in order and uncounted.
            for (String text : List.of("one", "two", "three")) {
                try (MessageConsumer consumer = Snippets.acceptNext(session, queue)) {
                    Message message = Jms.receive(consumer);
                    Jms.hasText(text, message);
                    assertEquals(1, Jms.deliveries(message));
                }
            }
        }
    }

    @Test
    void generic_session_auto_renewed_while_the_link_is_open() throws Exception {
        String queue = "generic_session_auto_renewed_while_the_link_is_open";
        try (Connection connection = Jms.connect();
                Connection other = Jms.connect();
                Session session = connection.createSession(Session.CLIENT_ACKNOWLEDGE);
                Session others = other.createSession()) {
            Snippets.send(session, queue, "kept", "one");
            MessageConsumer holder = Snippets.acceptById(session, queue, "kept");
            Message message = Jms.receive(holder);
            // The lock lasts five seconds, and nobody renews it.
            Wait.forTimeToPass(8_000);
            Jms.refused(() -> Snippets.acceptById(others, queue, "kept"), HELD);
            message.acknowledge();
            holder.close();
            Jms.nothingArrives(Snippets.acceptById(others, queue, "kept"));
        }
    }
}
