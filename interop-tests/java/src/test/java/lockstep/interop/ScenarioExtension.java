package lockstep.interop;

import java.io.IOException;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ExtensionContext.Namespace;
import org.junit.jupiter.api.extension.InvocationInterceptor;
import org.junit.jupiter.api.extension.ReflectiveInvocationContext;

/** Starts the broker, and writes the verdict of every scenario. */
public final class ScenarioExtension implements BeforeAllCallback, InvocationInterceptor {
    private static final Object VERDICTS = new Object();

    @Override
    public void beforeAll(ExtensionContext context) {
        String client = client(context);
        // Closed by JUnit when every scenario of every class is over.
        context.getRoot().getStore(Namespace.create(Broker.class)).getOrComputeIfAbsent(client, key -> {
            try {
                return Broker.of(client);
            } catch (IOException | InterruptedException failed) {
                throw new IllegalStateException(failed);
            }
        });
    }

    private static String client(ExtensionContext context) {
        return context.getRequiredTestClass().getAnnotation(Scenarios.class).client();
    }

    @Override
    public void interceptTestMethod(
            Invocation<Void> invocation, ReflectiveInvocationContext<Method> method, ExtensionContext context)
            throws Throwable {
        String client = client(context);
        Broker broker = Broker.of(client);
        String scenario = method.getExecutable().getName();
        boolean passed = false;
        try {
            invocation.proceed();
            if (!broker.alive()) {
                throw new AssertionError("the broker process ended during the scenario");
            }
            passed = true;
        } finally {
            if (!passed) {
                System.err.println("--- broker log of " + client + ": " + scenario + "\n" + broker.logTail());
            }
            writeVerdict(client, scenario, passed);
        }
    }

    private static void writeVerdict(String client, String scenario, boolean passed) throws IOException {
        String results = System.getenv("LOCKSTEP_INTEROP_RESULTS");
        if (results == null) {
            return;
        }
        String line = "{\"client\": \"%s\", \"scenario\": \"%s\", \"verdict\": \"%s\"}%n"
                .formatted(client, scenario, passed ? "pass" : "fail");
        synchronized (VERDICTS) {
            Path file = Path.of(results, "java.jsonl");
            Files.writeString(file, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        }
    }
}
