package lockstep.interop;

import java.io.File;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** One {@code lockstep serve} on a free loopback port, which ends with the run. */
public final class Broker implements AutoCloseable {
    private static final long START_DEADLINE_MS = 30_000;
    private static final long STOP_DEADLINE_S = 20;
    private static final int LOG_LINES = 30;

    private static final Map<String, Broker> SHARED = new HashMap<>();

    private final int port;
    private final Path directory;
    private Process process;

    private Broker() throws IOException, InterruptedException {
        try (ServerSocket probe = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = probe.getLocalPort();
        }
        directory = Files.createTempDirectory("lockstep-broker-");
        launch();
    }

    private void launch() throws IOException, InterruptedException {
        ProcessBuilder builder = new ProcessBuilder(
                Home.environment("LOCKSTEP_BIN"), "serve",
                "--listen", "127.0.0.1:" + port,
                "--data-dir", directory.resolve("data").toString(),
                "--config", Home.file("lockstep.toml").toString(),
                "--cert", Home.file("certs/server.pem").toString(),
                "--key", Home.file("certs/server-key.pem").toString());
        // Settings of whoever runs the tests must not reach the broker.
        builder.environment().keySet().removeIf(name -> name.startsWith("LOCKSTEP_"));
        process = builder.directory(directory.toFile())
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log().toFile()))
                .redirectInput(new File("/dev/null"))
                .start();
        Wait.until("a healthy broker", START_DEADLINE_MS, () -> {
            if (!process.isAlive()) {
                throw new IllegalStateException("the broker ended at start\n" + logTail());
            }
            return healthy();
        });
    }

    /** A broker of a scenario's own, which may kill it. */
    public static Broker own() throws IOException, InterruptedException {
        return new Broker();
    }

    /** SIGKILL, which is what a power cut is to the process, and the same broker again. */
    public void killAndStartAgain() throws IOException, InterruptedException {
        process.destroyForcibly().waitFor();
        launch();
    }

    /** SIGTERM, and the same broker again once it has gone in order. */
    public void stopAndStartAgain() throws IOException, InterruptedException {
        process.destroy();
        if (!process.waitFor(STOP_DEADLINE_S, TimeUnit.SECONDS)) {
            throw new IllegalStateException("the broker did not end in time after SIGTERM\n" + logTail());
        }
        launch();
    }

    /** The broker that all scenarios of a client share; each scenario has a queue of its own. */
    public static Broker of(String client) throws IOException, InterruptedException {
        synchronized (SHARED) {
            Broker broker = SHARED.get(client);
            if (broker == null) {
                broker = new Broker();
                SHARED.put(client, broker);
            }
            return broker;
        }
    }

    public int port() {
        return port;
    }

    public boolean alive() {
        return process.isAlive();
    }

    private boolean healthy() {
        try {
            URI health = URI.create("http://127.0.0.1:" + port + "/health");
            HttpURLConnection connection = (HttpURLConnection) health.toURL().openConnection();
            connection.setConnectTimeout(2_000);
            connection.setReadTimeout(2_000);
            return connection.getResponseCode() == 200;
        } catch (IOException notYet) {
            return false;
        }
    }

    private Path log() {
        return directory.resolve("broker.log");
    }

    /** The end of its log, for whoever reads about a failure. */
    public String logTail() {
        try {
            List<String> lines = Files.readAllLines(log());
            return String.join("\n", lines.subList(Math.max(0, lines.size() - LOG_LINES), lines.size()));
        } catch (IOException unreadable) {
            return unreadable.toString();
        }
    }

    /** SIGTERM; the broker has to go in order. */
    @Override
    public void close() throws IOException, InterruptedException {
        process.destroy();
        if (!process.waitFor(STOP_DEADLINE_S, TimeUnit.SECONDS)) {
            process.destroyForcibly();
            throw new IllegalStateException("the broker did not end in time after SIGTERM\n" + logTail());
        }
        if (process.exitValue() != 0) {
            throw new IllegalStateException("the broker ended with " + process.exitValue() + "\n" + logTail());
        }
        try (Stream<Path> files = Files.walk(directory)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }
}
