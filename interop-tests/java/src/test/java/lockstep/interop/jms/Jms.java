package lockstep.interop.jms;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import jakarta.jms.Connection;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import java.util.ArrayList;
import java.util.List;
import lockstep.interop.Broker;
import lockstep.interop.Home;
import lockstep.interop.Wait;
import org.apache.qpid.jms.JmsConnectionFactory;
import org.junit.jupiter.api.function.Executable;

/** What the JMS scenarios have in common. */
final class Jms {
    private Jms() {}

    static JmsConnectionFactory factory(String options) throws Exception {
        return new JmsConnectionFactory(
                Home.ROOT, Home.key(Home.ROOT), "amqp://127.0.0.1:" + Broker.of("jms").port() + "?" + options);
    }

    /** A started connection with SASL PLAIN. */
    static Connection connect() throws Exception {
        return connect("");
    }

    /** A started connection with options of the client's URI, such as {@code jms.prefetchPolicy.all=0}. */
    static Connection connect(String options) throws Exception {
        Connection connection = factory(options).createConnection();
        connection.start();
        return connection;
    }

    /** Text messages of {@code group} (none if null), in order. */
    static void send(Session session, String queue, String group, String... texts) throws JMSException {
        try (MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            for (String text : texts) {
                TextMessage message = session.createTextMessage(text);
                if (group != null) {
                    message.setStringProperty("JMSXGroupID", group);
                }
                producer.send(message);
            }
        }
    }

    static MessageConsumer consumer(Session session, String queue) throws JMSException {
        return session.createConsumer(session.createQueue(queue));
    }

    static Message receive(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(Wait.DELIVERY_MS);
        assertNotNull(message, "a message in time");
        return message;
    }

    /** Texts of the next {@code count} messages. */
    static List<String> texts(MessageConsumer consumer, int count) throws JMSException {
        List<String> texts = new ArrayList<>();
        while (texts.size() < count) {
            texts.add(receive(consumer).getBody(String.class));
        }
        return texts;
    }

    static void nothingArrives(MessageConsumer consumer) throws JMSException {
        assertNull(consumer.receive(Wait.NOTHING_MS));
    }

    /** That a new connection finds nothing in the queue. */
    static void nothingIsLeft(String queue) throws Exception {
        try (Connection connection = connect();
                Session session = connection.createSession()) {
            nothingArrives(consumer(session, queue));
        }
    }

    static int deliveries(Message message) throws JMSException {
        return message.getIntProperty("JMSXDeliveryCount");
    }

    /** The error of a call that must fail, whose text has all {@code parts}. */
    static JMSException refused(Executable call, String... parts) {
        JMSException error = assertThrows(JMSException.class, call);
        for (String part : parts) {
            assertTrue(String.valueOf(error.getMessage()).contains(part), () -> part + " is not in: " + error.getMessage());
        }
        return error;
    }

    static void hasText(String expected, Message message) throws JMSException {
        assertEquals(expected, message.getBody(String.class));
    }
}
