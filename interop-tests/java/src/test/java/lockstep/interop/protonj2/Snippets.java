package lockstep.interop.protonj2;

import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.apache.qpid.protonj2.client.Connection;
import org.apache.qpid.protonj2.client.Delivery;
import org.apache.qpid.protonj2.client.Message;
import org.apache.qpid.protonj2.client.Receiver;
import org.apache.qpid.protonj2.client.ReceiverOptions;
import org.apache.qpid.protonj2.client.Sender;
import org.apache.qpid.protonj2.types.Binary;

/** Message sessions with protonj2-client: what a document shows, and what the scenarios run. */
final class Snippets {
    private Snippets() {}

    // snippet: accept-by-id
    static Receiver acceptById(Connection connection, String queue, String id) throws Exception {
        ReceiverOptions options = new ReceiverOptions().autoAccept(false).creditWindow(10);
        options.sourceOptions().filters(Map.of("com.microsoft:session-filter", id));
        Receiver receiver = connection.openReceiver(queue, options);
        receiver.openFuture().get(); // fails while another holds it: com.microsoft:session-cannot-be-locked
        return receiver;
    }
    // end snippet

    // snippet: accept-next
    static Receiver acceptNext(Connection connection, String queue) throws Exception {
        ReceiverOptions options = new ReceiverOptions().autoAccept(false).creditWindow(10);
        options.openTimeout(70, TimeUnit.SECONDS); // the broker waits 65 s for one before it refuses
        options.sourceOptions().filters(Collections.singletonMap("com.microsoft:session-filter", null));
        Receiver receiver = connection.openReceiver(queue, options);
        receiver.openFuture().get();
        return receiver;
    }

    static String acceptedId(Receiver receiver) throws Exception {
        return receiver.source().filters().get("com.microsoft:session-filter");
    }
    // end snippet

    // snippet: send
    static void send(Connection connection, String queue, String id, String text) throws Exception {
        try (Sender sender = connection.openSender(queue)) {
            sender.send(Message.create(text).groupId(id)).awaitAccepted();
        }
    }
    // end snippet

    // snippet: request
    static Map<String, Object> request(Connection connection, String queue, String operation, Map<String, Object> body)
            throws Exception {
        String node = queue + "/$management";
        try (Receiver answers = connection.openReceiver(node);
                Sender requests = connection.openSender(node)) {
            Message<Map<String, Object>> request = Message.create(body);
            request.messageId(UUID.randomUUID().toString()).replyTo(node).property("operation", operation);
            requests.send(request);
            Delivery delivery = answers.receive(10, TimeUnit.SECONDS);
            Message<Map<String, Object>> answer = delivery.message();
            int status = (int) answer.property("statusCode");
            if (status != 200) {
                throw new IllegalStateException(status + ": " + answer.property("statusDescription"));
            }
            return answer.body();
        }
    }
    // end snippet

    // snippet: renew
    /** Until when the lock holds now, in milliseconds since 1970. */
    static long renew(Connection connection, String queue, String id) throws Exception {
        String operation = "com.microsoft:renew-session-lock";
        return (long) request(connection, queue, operation, Map.of("session-id", id)).get("expiration");
    }
    // end snippet

    // snippet: state
    static void setState(Connection connection, String queue, String id, byte[] state) throws Exception {
        Map<String, Object> body = new HashMap<>();
        body.put("session-id", id);
        body.put("session-state", state == null ? null : new Binary(state));
        request(connection, queue, "com.microsoft:set-session-state", body);
    }

    static byte[] getState(Connection connection, String queue, String id) throws Exception {
        String operation = "com.microsoft:get-session-state";
        Object state = request(connection, queue, operation, Map.of("session-id", id)).get("session-state");
        return state == null ? null : ((Binary) state).asByteArray();
    }
    // end snippet
}
