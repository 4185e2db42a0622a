package lockstep.interop.jms;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import jakarta.jms.CompletionListener;
import jakarta.jms.Connection;
import jakarta.jms.JMSConsumer;
import jakarta.jms.JMSContext;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.QueueBrowser;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import lockstep.interop.Broker;
import lockstep.interop.Home;
import lockstep.interop.Scenarios;
import lockstep.interop.Wait;
import org.apache.qpid.jms.JmsConnectionFactory;
import org.junit.jupiter.api.Test;

/** What JMS users expect of a broker, beyond what every client does. */
@Scenarios(client = "jms")
class JmsExpectationScenarios {
    @Test
    void jms_auto_and_dups_ok_acknowledge() throws Exception {
        String queue = "jms_auto_and_dups_ok_acknowledge";
        for (int mode : List.of(Session.AUTO_ACKNOWLEDGE, Session.DUPS_OK_ACKNOWLEDGE)) {
            try (Connection connection = Jms.connect();
                    Session session = connection.createSession(mode)) {
                Jms.send(session, queue, null, "one", "two", "three");
                assertEquals(List.of("one", "two", "three"), Jms.texts(Jms.consumer(session, queue), 3));
            }
            Jms.nothingIsLeft(queue);
        }
    }

    @Test
    void jms_client_acknowledge_covers_what_the_session_received() throws Exception {
        String queue = "jms_client_acknowledge_covers_what_the_session_received";
        try (Connection connection = Jms.connect("jms.prefetchPolicy.all=0");
                Session session = connection.createSession(Session.CLIENT_ACKNOWLEDGE)) {
            Jms.send(session, queue, null, "one", "two", "three", "four");
            MessageConsumer consumer = Jms.consumer(session, queue);
            Jms.receive(consumer);
            Jms.receive(consumer).acknowledge();
            Jms.hasText("three", Jms.receive(consumer));
        }
        try (Connection connection = Jms.connect("jms.prefetchPolicy.all=0");
                Session session = connection.createSession()) {
            MessageConsumer consumer = Jms.consumer(session, queue);
            // The client says of the third, when it closes, that its delivery failed.
            Message third = Jms.receive(consumer);
            Jms.hasText("three", third);
            assertEquals(2, Jms.deliveries(third));
            assertTrue(third.getJMSRedelivered());
            Message fourth = Jms.receive(consumer);
            Jms.hasText("four", fourth);
            assertEquals(1, Jms.deliveries(fourth));
            Jms.nothingArrives(consumer);
        }
    }

    @Test
    void jms_recover_redelivers_with_a_higher_count() throws Exception {
        String queue = "jms_recover_redelivers_with_a_higher_count";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession(Session.CLIENT_ACKNOWLEDGE)) {
            Jms.send(session, queue, null, "one", "two");
            MessageConsumer consumer = Jms.consumer(session, queue);
            assertEquals(List.of("one", "two"), Jms.texts(consumer, 2));
            session.recover();
            for (String text : List.of("one", "two")) {
                Message again = Jms.receive(consumer);
                Jms.hasText(text, again);
                assertTrue(again.getJMSRedelivered());
                assertEquals(2, Jms.deliveries(again));
                if (text.equals("two")) {
                    again.acknowledge();
                }
            }
        }
        Jms.nothingIsLeft(queue);
    }

    @Test
    void jms_prefetched_messages_stay_locked_when_the_consumer_closes() throws Exception {
        String queue = "jms_prefetched_messages_stay_locked_when_the_consumer_closes";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            Jms.send(session, queue, null, "one", "two", "three");
            MessageConsumer consumer = Jms.consumer(session, queue);
            Jms.hasText("one", Jms.receive(consumer));
            // The client says of what it has prefetched that it is released, but behind its detach, where it does
            // not count any more (AMQP 2.7.6): that comes back when its locks run out.
            consumer.close();
            MessageConsumer next = Jms.consumer(session, queue);
            for (String text : List.of("two", "three")) {
                Message message = Jms.receive(next);
                Jms.hasText(text, message);
                assertEquals(2, Jms.deliveries(message));
            }
        }
    }

    @Test
    void jms_without_prefetch_a_closed_consumer_leaves_nothing_locked() throws Exception {
        String queue = "jms_without_prefetch_a_closed_consumer_leaves_nothing_locked";
        try (Connection connection = Jms.connect("jms.prefetchPolicy.all=0");
                Session session = connection.createSession()) {
            Jms.send(session, queue, null, "one", "two", "three");
            for (String text : List.of("one", "two", "three")) {
                try (MessageConsumer consumer = Jms.consumer(session, queue)) {
                    Message message = Jms.receive(consumer);
                    Jms.hasText(text, message);
                    assertEquals(1, Jms.deliveries(message));
                }
            }
        }
    }

    @Test
    void jms_a_redelivery_policy_of_the_client_dead_letters() throws Exception {
        String queue = "jms_a_redelivery_policy_of_the_client_dead_letters";
        String policy = "jms.redeliveryPolicy.maxRedeliveries=1&jms.redeliveryPolicy.outcome=REJECTED";
        try (Connection connection = Jms.connect(policy);
                Session session = connection.createSession(Session.CLIENT_ACKNOWLEDGE)) {
            Jms.send(session, queue, null, "poison");
            MessageConsumer consumer = Jms.consumer(session, queue);
            for (int delivery = 1; delivery <= 2; delivery++) {
                assertEquals(delivery, Jms.deliveries(Jms.receive(consumer)));
                session.recover();
            }
            Jms.nothingArrives(consumer);
            Message dead = Jms.receive(Jms.consumer(session, queue + "/$DeadLetterQueue"));
            Jms.hasText("poison", dead);
            dead.acknowledge();
        }
        Jms.nothingIsLeft(queue);
    }

    @Test
    void jms_a_listener_that_throws_gets_the_message_again() throws Exception {
        String queue = "jms_a_listener_that_throws_gets_the_message_again";
        List<Integer> deliveries = new ArrayList<>();
        CountDownLatch second = new CountDownLatch(2);
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            Jms.send(session, queue, null, "one");
            Session listening = connection.createSession();
            Jms.consumer(listening, queue).setMessageListener(message -> {
                try {
                    deliveries.add(Jms.deliveries(message));
                } catch (jakarta.jms.JMSException unreadable) {
                    deliveries.add(-1);
                }
                second.countDown();
                if (second.getCount() > 0) {
                    throw new IllegalStateException("the first time fails");
                }
            });
            assertTrue(second.await(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS), () -> "deliveries: " + deliveries);
            // The client releases what a listener throws at, which is not counted.
            assertEquals(List.of(1, 1), deliveries);
            listening.close();
        }
        Jms.nothingIsLeft(queue);
    }

    @Test
    void jms_request_and_reply_over_a_queue() throws Exception {
        String queue = "jms_request_and_reply_over_a_queue";
        try (Connection server = Jms.connect();
                Connection connection = Jms.connect();
                Session serving = server.createSession();
                Session session = connection.createSession()) {
            Jms.consumer(serving, queue).setMessageListener(request -> {
                try {
                    // One producer for answers to anywhere.
                    TextMessage answer = serving.createTextMessage("re: " + request.getBody(String.class));
                    answer.setJMSCorrelationID(request.getJMSMessageID());
                    serving.createProducer(null).send(request.getJMSReplyTo(), answer);
                } catch (jakarta.jms.JMSException failed) {
                    throw new IllegalStateException(failed);
                }
            });
            TextMessage request = session.createTextMessage("question");
            request.setJMSReplyTo(session.createQueue(queue + ".answers"));
            session.createProducer(session.createQueue(queue)).send(request);
            Message answer = Jms.receive(Jms.consumer(session, queue + ".answers"));
            Jms.hasText("re: question", answer);
            assertEquals(request.getJMSMessageID(), answer.getJMSCorrelationID());
        }
    }

    @Test
    void jms_a_producer_without_a_destination_sends_anywhere() throws Exception {
        String queue = "jms_a_producer_without_a_destination_sends_anywhere";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession();
                MessageProducer anywhere = session.createProducer(null)) {
            anywhere.send(session.createQueue(queue), session.createTextMessage("one"));
            anywhere.send(session.createQueue(queue + ".other"), session.createTextMessage("two"));
            Jms.refused(() -> anywhere.send(session.createQueue("no such queue"), session.createTextMessage("three")),
                    "could not be found");
            anywhere.send(session.createQueue(queue), session.createTextMessage("four"));
            assertEquals(List.of("one", "four"), Jms.texts(Jms.consumer(session, queue), 2));
            assertEquals(List.of("two"), Jms.texts(Jms.consumer(session, queue + ".other"), 1));
        }
    }

    @Test
    void jms_sends_complete_asynchronously_and_in_order() throws Exception {
        String queue = "jms_sends_complete_asynchronously_and_in_order";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession();
                MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            List<String> completed = new ArrayList<>();
            AtomicReference<Exception> failed = new AtomicReference<>();
            CountDownLatch all = new CountDownLatch(500);
            CompletionListener listener = new CompletionListener() {
                @Override
                public void onCompletion(Message message) {
                    try {
                        completed.add(message.getBody(String.class));
                    } catch (jakarta.jms.JMSException unreadable) {
                        failed.set(unreadable);
                    }
                    all.countDown();
                }

                @Override
                public void onException(Message message, Exception exception) {
                    failed.set(exception);
                    all.countDown();
                }
            };
            List<String> sent = new ArrayList<>();
            for (int number = 0; number < 500; number++) {
                sent.add("text " + number);
                producer.send(session.createTextMessage("text " + number), listener);
            }
            assertTrue(all.await(Wait.DELIVERY_MS, TimeUnit.MILLISECONDS));
            assertNull(failed.get());
            assertEquals(sent, completed);
            assertEquals(sent, Jms.texts(Jms.consumer(session, queue), 500));
        }
    }

    @Test
    void jms_context_sends_and_receives() throws Exception {
        String queue = "jms_context_sends_and_receives";
        try (JMSContext context = Jms.factory("").createContext(JMSContext.CLIENT_ACKNOWLEDGE);
                JMSConsumer consumer = context.createConsumer(context.createQueue(queue))) {
            context.createProducer().setProperty("key", "value").setPriority(2).send(context.createQueue(queue), "one");
            Message message = consumer.receive(Wait.DELIVERY_MS);
            assertNotNull(message);
            Jms.hasText("one", message);
            assertEquals("value", message.getStringProperty("key"));
            assertEquals(2, message.getJMSPriority());
            context.acknowledge();
        }
        Jms.nothingIsLeft(queue);
    }

    @Test
    void jms_a_time_to_live_is_kept() throws Exception {
        String queue = "jms_a_time_to_live_is_kept";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession();
                MessageProducer producer = session.createProducer(session.createQueue(queue))) {
            producer.setTimeToLive(50);
            producer.send(session.createTextMessage("short-lived"));
            Wait.forTimeToPass(200);
            producer.setTimeToLive(60_000);
            TextMessage lasting = session.createTextMessage("lasting");
            producer.send(lasting);
            producer.setTimeToLive(0);
            producer.send(session.createTextMessage("for ever"));
            MessageConsumer consumer = Jms.consumer(session, queue);
            Message received = Jms.receive(consumer);
            Jms.hasText("lasting", received);
            // Counted from the broker's clock, which is this machine's.
            assertEquals(lasting.getJMSExpiration(), received.getJMSExpiration(), 5_000);
            Message other = Jms.receive(consumer);
            Jms.hasText("for ever", other);
            assertEquals(0, other.getJMSExpiration());
            Jms.nothingArrives(consumer);
        }
    }

    @Test
    void jms_transactions_are_refused_by_name() throws Exception {
        String queue = "jms_transactions_are_refused_by_name";
        try (Connection connection = Jms.connect()) {
            Jms.refused(
                    () -> {
                        Session session = connection.createSession(Session.SESSION_TRANSACTED);
                        Jms.send(session, queue, null, "one");
                        session.commit();
                    },
                    "ransactions are not supported by this version");
            try (Session session = connection.createSession()) {
                Jms.nothingArrives(Jms.consumer(session, queue));
            }
        }
    }

    @Test
    void jms_temporary_queues_are_refused_by_name() throws Exception {
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            Jms.refused(session::createTemporaryQueue, "ynamic nodes are not supported by this version");
            Jms.refused(session::createTemporaryTopic, "ynamic nodes are not supported by this version");
            // The connection goes on.
            Jms.send(session, "jms_temporary_queues_are_refused_by_name", null, "one");
        }
    }

    @Test
    void jms_selectors_on_a_queue_are_refused_by_name() throws Exception {
        String queue = "jms_selectors_on_a_queue_are_refused_by_name";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            for (String selector : List.of("color = 'red'", "JMSXGroupID = 'x'", "JMSPriority > 5")) {
                Jms.refused(() -> session.createConsumer(session.createQueue(queue), selector), "not supported by this version");
            }
            Jms.send(session, queue, null, "one");
            assertEquals(List.of("one"), Jms.texts(Jms.consumer(session, queue), 1));
        }
    }

    @Test
    void jms_topics_are_refused_by_name() throws Exception {
        String queue = "jms_topics_are_refused_by_name";
        try (Connection connection = Jms.connect("jms.clientID=subscriber");
                Session session = connection.createSession()) {
            // A queue of that name is no topic.
            Topic topic = session.createTopic(queue);
            Jms.refused(() -> session.createConsumer(topic), "Topics, subscriptions and rules are not supported");
            Jms.refused(() -> session.createDurableSubscriber(topic, "s"), "Topics, subscriptions and rules are not supported");
            Jms.refused(() -> session.createProducer(topic), "Topics, subscriptions and rules are not supported");
            Jms.send(session, queue, null, "one");
            assertEquals(List.of("one"), Jms.texts(Jms.consumer(session, queue), 1));
        }
    }

    @Test
    void jms_a_queue_browser_is_refused_clearly() throws Exception {
        String queue = "jms_a_queue_browser_is_refused_clearly";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            Jms.send(session, queue, null, "one");
            Jms.refused(
                    () -> {
                        QueueBrowser browser = session.createBrowser(session.createQueue(queue));
                        browser.getEnumeration().hasMoreElements();
                    },
                    "istribution-mode copy is not supported");
            assertEquals(List.of("one"), Jms.texts(Jms.consumer(session, queue), 1));
        }
    }

    @Test
    void jms_a_closed_session_ends_its_links_only() throws Exception {
        String queue = "jms_a_closed_session_ends_its_links_only";
        try (Connection connection = Jms.connect();
                Session stays = connection.createSession()) {
            MessageConsumer consumer = Jms.consumer(stays, queue);
            Session ends = connection.createSession(Session.CLIENT_ACKNOWLEDGE);
            MessageConsumer taker = Jms.consumer(ends, queue);
            Jms.nothingArrives(taker);
            ends.close();
            Jms.send(stays, queue, null, "one", "two");
            assertEquals(List.of("one", "two"), Jms.texts(consumer, 2));
        }
    }

    @Test
    void jms_a_stopped_connection_resumes() throws Exception {
        String queue = "jms_a_stopped_connection_resumes";
        try (Connection connection = Jms.connect();
                Session session = connection.createSession()) {
            MessageConsumer consumer = Jms.consumer(session, queue);
            connection.stop();
            Jms.send(session, queue, null, "one");
            Jms.nothingArrives(consumer);
            connection.start();
            assertEquals(List.of("one"), Jms.texts(consumer, 1));
        }
    }

    /** What happens to a broker in the middle of a conversation. */
    private interface Interruption {
        void of(Broker broker) throws Exception;
    }

    @Test
    void jms_failover_goes_on_after_a_restart() throws Exception {
        failoverGoesOn("jms_failover_goes_on_after_a_restart", Broker::killAndStartAgain);
    }

    @Test
    void jms_failover_goes_on_after_an_orderly_restart() throws Exception {
        failoverGoesOn("jms_failover_goes_on_after_an_orderly_restart", Broker::stopAndStartAgain);
    }

    private static void failoverGoesOn(String queue, Interruption restart) throws Exception {
        try (Broker broker = Broker.own()) {
            String uri = "failover:(amqp://127.0.0.1:" + broker.port() + ")?failover.reconnectDelay=20";
            JmsConnectionFactory factory = new JmsConnectionFactory(Home.ROOT, Home.key(Home.ROOT), uri);
            try (Connection connection = factory.createConnection();
                    Session session = connection.createSession();
                    MessageProducer producer = session.createProducer(session.createQueue(queue))) {
                connection.start();
                MessageConsumer consumer = Jms.consumer(session, queue);
                producer.send(session.createTextMessage("before"));
                assertEquals(List.of("before"), Jms.texts(consumer, 1));
                restart.of(broker);
                // The same objects go on. Nobody confirms the client's acknowledgement, so the first may come again.
                producer.send(session.createTextMessage("after"));
                String next = Jms.receive(consumer).getBody(String.class);
                if (next.equals("before")) {
                    next = Jms.receive(consumer).getBody(String.class);
                }
                assertEquals("after", next);
                Jms.nothingArrives(consumer);
            }
        }
    }
}
