package lockstep.interop.protonj2;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import lockstep.interop.Scenarios;
import lockstep.interop.Wait;
import org.apache.qpid.protonj2.client.Connection;
import org.apache.qpid.protonj2.client.Delivery;
import org.apache.qpid.protonj2.client.Receiver;
import org.apache.qpid.protonj2.client.ReceiverOptions;
import org.apache.qpid.protonj2.client.exceptions.ClientResourceRemotelyClosedException;
import org.apache.qpid.protonj2.types.Symbol;
import org.apache.qpid.protonj2.types.UnsignedLong;
import org.junit.jupiter.api.Test;

@Scenarios(client = "protonj2")
class ProtonMessageSessionScenarios {
    private static final String FILTER = "com.microsoft:session-filter";

    /** Sends to two ids, accepts one by the filter that {@code options} has, and sees only that one's messages. */
    private static String acceptsWith(String queue, ReceiverOptions options) throws Exception {
        try (Connection connection = Proton.connect()) {
            Proton.send(connection, queue, "other", "not for us");
            Proton.send(connection, queue, "wanted", "one", "two");
            try (Receiver receiver = Proton.receiver(connection, queue, options)) {
                assertEquals(List.of("one", "two"), Proton.accepted(receiver, 2));
                Proton.nothingArrives(receiver);
                return Snippets.acceptedId(receiver);
            }
        }
    }

    /** The client shows a described filter as text, with its descriptor. */
    private static void hasFilter(Object descriptor, String id, String shown) {
        String expected = "UnknownDescribedType{descriptor=" + descriptor + ", described=" + id + "}";
        assertEquals(expected, shown);
    }

    private static void acceptsDescribed(String queue, Object descriptor) throws Exception {
        ReceiverOptions options = Proton.options(10);
        options.sourceOptions().addFilter(FILTER, descriptor, "wanted");
        hasFilter(descriptor, "wanted", acceptsWith(queue, options));
    }

    @Test
    void generic_session_by_a_bare_string() throws Exception {
        String queue = "generic_session_by_a_bare_string";
        ReceiverOptions options = Proton.options(10);
        options.sourceOptions().filters(Map.of(FILTER, "wanted"));
        assertEquals("wanted", acceptsWith(queue, options));
    }

    @Test
    void generic_session_by_a_described_filter_with_symbol() throws Exception {
        acceptsDescribed("generic_session_by_a_described_filter_with_symbol", Symbol.valueOf(FILTER));
    }

    @Test
    void generic_session_by_a_described_filter_with_ulong() throws Exception {
        acceptsDescribed("generic_session_by_a_described_filter_with_ulong", UnsignedLong.valueOf(0x0000_0013_7000_000CL));
    }

    @Test
    void generic_session_by_a_symbol_typed_id() throws Exception {
        String queue = "generic_session_by_a_symbol_typed_id";
        ReceiverOptions options = Proton.options(10);
        options.sourceOptions().filters(Map.of(FILTER, Symbol.valueOf("wanted")));
        assertEquals("wanted", acceptsWith(queue, options));
    }

    @Test
    void generic_session_next_by_null() throws Exception {
        String queue = "generic_session_next_by_null";
        try (Connection connection = Proton.connect();
                Connection other = Proton.connect()) {
            Snippets.send(connection, queue, "first", "one");
            Receiver receiver = Snippets.acceptNext(connection, queue);
            assertEquals("first", Snippets.acceptedId(receiver));
            assertEquals(List.of("one"), Proton.accepted(receiver, 1));
            // The next one is pending until there is another id.
            ReceiverOptions described = Proton.options(10);
            described.sourceOptions().addFilter(FILTER, Symbol.valueOf(FILTER), null);
            Receiver pending = other.openReceiver(queue, described);
            Snippets.send(connection, queue, "second", "two");
            assertEquals(List.of("two"), Proton.accepted(pending, 1));
            hasFilter(FILTER, "second", Snippets.acceptedId(pending));
        }
    }

    @Test
    void generic_session_held_elsewhere_is_refused() throws Exception {
        String queue = "generic_session_held_elsewhere_is_refused";
        try (Connection connection = Proton.connect();
                Connection other = Proton.connect()) {
            Receiver holder = Snippets.acceptById(connection, queue, "held");
            ExecutionException refused =
                    assertThrows(ExecutionException.class, () -> Snippets.acceptById(other, queue, "held"));
            ClientResourceRemotelyClosedException reason = (ClientResourceRemotelyClosedException) refused.getCause();
            assertEquals("com.microsoft:session-cannot-be-locked", reason.getErrorCondition().condition());
            holder.close();
            Snippets.acceptById(other, queue, "held").close();
        }
    }

    @Test
    void generic_session_messages_come_in_order() throws Exception {
        String queue = "generic_session_messages_come_in_order";
        try (Connection connection = Proton.connect();
                Receiver a = Snippets.acceptById(connection, queue, "a");
                Receiver b = Snippets.acceptById(connection, queue, "b")) {
            for (int number = 1; number <= 30; number++) {
                Snippets.send(connection, queue, "a", "a" + number);
                Snippets.send(connection, queue, "b", "b" + number);
            }
            for (Receiver receiver : List.of(a, b)) {
                for (int number = 1; number <= 30; number++) {
                    Delivery delivery = Proton.receive(receiver);
                    String id = Snippets.acceptedId(receiver);
                    assertEquals(id + number, Proton.text(delivery));
                    assertEquals(id, delivery.message().groupId());
                    delivery.accept();
                }
            }
            // Abandoned, a message comes again before any later one.
            Snippets.send(connection, queue, "a", "again");
            Snippets.send(connection, queue, "a", "later");
            a.close();
            ReceiverOptions options = Proton.options(0);
            options.sourceOptions().filters(Map.of(FILTER, "a"));
            Receiver holder = Proton.receiver(connection, queue, options);
            holder.addCredit(1);
            Proton.receive(holder).modified(true, false);
            holder.addCredit(2);
            assertEquals(List.of("again", "later"), Proton.accepted(holder, 2));
        }
    }

    @Test
    void generic_session_lock_is_renewed_by_management() throws Exception {
        String queue = "generic_session_lock_is_renewed_by_management";
        try (Connection connection = Proton.connect();
                Connection other = Proton.connect()) {
            Snippets.send(connection, queue, "renewed", "one");
            Receiver holder = Snippets.acceptById(connection, queue, "renewed");
            // The lock lasts five seconds; it is kept for eight.
            for (int number = 0; number < 4; number++) {
                Wait.forTimeToPass(2_000);
                assertTrue(Snippets.renew(connection, queue, "renewed") > System.currentTimeMillis());
            }
            assertThrows(ExecutionException.class, () -> Snippets.acceptById(other, queue, "renewed"));
            assertEquals(List.of("one"), Proton.accepted(holder, 1));
            assertThrows(IllegalStateException.class, () -> Snippets.renew(other, queue, "renewed"));
        }
    }

    @Test
    void generic_session_state_by_management() throws Exception {
        String queue = "generic_session_state_by_management";
        try (Connection connection = Proton.connect()) {
            Receiver holder = Snippets.acceptById(connection, queue, "with state");
            assertNull(Snippets.getState(connection, queue, "with state"));
            Snippets.setState(connection, queue, "with state", new byte[] {1, 2, 3});
            assertArrayEquals(new byte[] {1, 2, 3}, Snippets.getState(connection, queue, "with state"));
            holder.close();
            Snippets.acceptById(connection, queue, "with state");
            assertArrayEquals(new byte[] {1, 2, 3}, Snippets.getState(connection, queue, "with state"));
            Snippets.setState(connection, queue, "with state", null);
            assertNull(Snippets.getState(connection, queue, "with state"));
        }
    }

    @Test
    void generic_session_auto_renewed_while_the_link_is_open() throws Exception {
        String queue = "generic_session_auto_renewed_while_the_link_is_open";
        try (Connection connection = Proton.connect();
                Connection other = Proton.connect()) {
            Snippets.send(connection, queue, "kept", "one");
            Receiver holder = Snippets.acceptById(connection, queue, "kept");
            Delivery delivery = Proton.receive(holder);
            // The lock lasts five seconds, and nobody renews it.
            Wait.forTimeToPass(8_000);
            assertThrows(ExecutionException.class, () -> Snippets.acceptById(other, queue, "kept"));
            delivery.accept();
            holder.close();
            Proton.nothingArrives(Snippets.acceptById(other, queue, "kept"));
        }
    }
}
