package lockstep.interop.protonj2;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import lockstep.interop.Broker;
import lockstep.interop.Home;
import lockstep.interop.Wait;
import org.apache.qpid.protonj2.client.Client;
import org.apache.qpid.protonj2.client.Connection;
import org.apache.qpid.protonj2.client.ConnectionOptions;
import org.apache.qpid.protonj2.client.Delivery;
import org.apache.qpid.protonj2.client.DeliveryMode;
import org.apache.qpid.protonj2.client.ErrorCondition;
import org.apache.qpid.protonj2.client.Message;
import org.apache.qpid.protonj2.client.Receiver;
import org.apache.qpid.protonj2.client.ReceiverOptions;
import org.apache.qpid.protonj2.client.Sender;
import org.apache.qpid.protonj2.client.exceptions.ClientException;
import org.apache.qpid.protonj2.client.exceptions.ClientResourceRemotelyClosedException;
import org.junit.jupiter.api.function.Executable;

/** What the protonj2 scenarios have in common. */
final class Proton {
    /** Where a connection is gone, its client is, too. */
    private static final Client CLIENT = Client.create();

    private Proton() {}

    static ConnectionOptions plain() {
        ConnectionOptions options = new ConnectionOptions().user(Home.ROOT).password(Home.key(Home.ROOT));
        options.saslOptions().addAllowedMechanism("PLAIN");
        return options;
    }

    static Connection connect() throws Exception {
        return connect(plain());
    }

    static Connection connect(ConnectionOptions options) throws Exception {
        return CLIENT.connect("127.0.0.1", Broker.of("protonj2").port(), options);
    }

    /** Text messages of {@code group} (none if null), in order. */
    static void send(Connection connection, String queue, String group, String... texts) throws Exception {
        try (Sender sender = connection.openSender(queue)) {
            for (String text : texts) {
                Message<String> message = Message.create(text);
                if (group != null) {
                    message.groupId(group);
                }
                sender.send(message).awaitAccepted(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);
            }
        }
    }

    /** A receiver that settles nothing by itself, with this much credit, topped up if it is more than none. */
    static ReceiverOptions options(int creditWindow) {
        return new ReceiverOptions().autoAccept(false).creditWindow(creditWindow);
    }

    static ReceiverOptions receiveAndDelete(int creditWindow) {
        return options(creditWindow).deliveryMode(DeliveryMode.AT_MOST_ONCE);
    }

    /** A receiver whose attach the broker has answered. */
    static Receiver receiver(Connection connection, String queue, ReceiverOptions options) throws Exception {
        Receiver receiver = connection.openReceiver(queue, options);
        receiver.openFuture().get(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);
        return receiver;
    }

    static Delivery receive(Receiver receiver) throws ClientException {
        Delivery delivery = receiver.receive(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS);
        assertNotNull(delivery, "a message in time");
        return delivery;
    }

    static String text(Delivery delivery) throws ClientException {
        return delivery.<String>message().body();
    }

    /** Bodies of the next {@code count} messages, accepted. */
    static List<String> accepted(Receiver receiver, int count) throws ClientException {
        List<String> texts = new ArrayList<>();
        while (texts.size() < count) {
            Delivery delivery = receive(receiver);
            texts.add(text(delivery));
            delivery.accept();
        }
        return texts;
    }

    static void nothingArrives(Receiver receiver) throws ClientException {
        assertNull(receiver.receive(Wait.NOTHING_MS, TimeUnit.MILLISECONDS));
    }

    /** That a new connection finds nothing in the queue. */
    static void nothingIsLeft(String queue) throws Exception {
        try (Connection connection = connect()) {
            nothingArrives(receiver(connection, queue, options(1)));
        }
    }

    /** The error of a call that must fail with {@code condition}. */
    static ErrorCondition refused(String condition, Executable call) {
        Throwable thrown = assertThrows(Throwable.class, call);
        if (thrown instanceof ExecutionException) {
            thrown = thrown.getCause();
        }
        ClientResourceRemotelyClosedException error =
                assertInstanceOf(ClientResourceRemotelyClosedException.class, thrown);
        assertNotNull(error.getErrorCondition(), () -> "" + error);
        assertEquals(condition, error.getErrorCondition().condition(), () -> "" + error);
        assertTrue(!error.getErrorCondition().description().isEmpty());
        return error.getErrorCondition();
    }
}
