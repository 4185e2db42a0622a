package lockstep.interop.jms;

import static org.junit.jupiter.api.Assertions.assertEquals;

import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.Map;

/** Requests to an entity's {@code $management}. */
final class Management {
    private Management() {}

    /** Sends {@code request} and gives the map that is the answer's body. */
    static Map<?, ?> call(Session session, String entity, String operation, MapMessage request) throws Exception {
        // snippet: jms-management
        Queue management = session.createQueue(entity + "/$management");
        try (MessageConsumer answers = session.createConsumer(management);
                MessageProducer requests = session.createProducer(management)) {
            request.setStringProperty("operation", operation);
            request.setJMSReplyTo(management);
            requests.send(request);
            Message answer = answers.receive(10_000);
            // end snippet
            assertEquals(request.getJMSMessageID(), answer.getJMSCorrelationID());
            assertEquals(200, answer.getIntProperty("statusCode"), () -> "" + answer);
            return (Map<?, ?>) ((ObjectMessage) answer).getObject();
        }
    }
}
