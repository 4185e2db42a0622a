package lockstep.interop.jms;

import jakarta.jms.JMSException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import java.util.Map;

/** Message sessions with JMS: what a document shows, and what the scenarios run. */
final class Snippets {
    private Snippets() {}

    // snippet: jms-send
    static void send(Session session, String queue, String id, String text) throws JMSException {
        try (MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            TextMessage message = session.createTextMessage(text);
            message.setStringProperty("JMSXGroupID", id);
            producer.send(message);
        }
    }
    // end snippet

    // snippet: jms-accept-by-id
    static MessageConsumer acceptById(Session session, String queue, String id) throws JMSException {
        String selector = "JMSXGroupID = '" + id.replace("'", "''") + "'";
        return session.createConsumer(session.createQueue(queue), selector);
    }
    // end snippet

    // snippet: jms-accept-next
    static MessageConsumer acceptNext(Session session, String queue) throws JMSException {
        // Waits for one; every message then says which it is: getStringProperty("JMSXGroupID").
        return session.createConsumer(session.createQueue(queue), "JMSXGroupID IS NOT NULL");
    }
    // end snippet

    // snippet: jms-request
    static Map<?, ?> request(Session session, String queue, String operation, MapMessage request) throws JMSException {
        Queue management = session.createQueue(queue + "/$management");
        try (MessageConsumer answers = session.createConsumer(management);
                MessageProducer requests = session.createProducer(management)) {
            request.setStringProperty("operation", operation);
            request.setJMSReplyTo(management);
            requests.send(request);
            Message answer = answers.receive(10_000);
            if (answer.getIntProperty("statusCode") != 200) {
                throw new JMSException(answer.getStringProperty("statusDescription"));
            }
            return (Map<?, ?>) ((ObjectMessage) answer).getObject();
        }
    }
    // end snippet

    // snippet: jms-renew
    static void renew(Session session, String queue, String id) throws JMSException {
        MapMessage request = session.createMapMessage();
        request.setString("session-id", id);
        request(session, queue, "com.microsoft:renew-session-lock", request);
    }
    // end snippet

    // snippet: jms-state
    static void setState(Session session, String queue, String id, byte[] state) throws JMSException {
        MapMessage request = session.createMapMessage();
        request.setString("session-id", id);
        request.setBytes("session-state", state);
        request(session, queue, "com.microsoft:set-session-state", request);
    }

    static Object getState(Session session, String queue, String id) throws JMSException {
        MapMessage request = session.createMapMessage();
        request.setString("session-id", id);
        return request(session, queue, "com.microsoft:get-session-state", request).get("session-state");
    }
    // end snippet
}
