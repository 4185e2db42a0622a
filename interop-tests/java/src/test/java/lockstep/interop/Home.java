package lockstep.interop;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The directory made by {@code lib/make_config.py}: configuration, keys, certificates. */
public final class Home {
    /** A policy that may do everything in the namespace. */
    public static final String ROOT = "root";

    private Home() {}

    static String environment(String name) {
        String value = System.getenv(name);
        if (value == null) {
            throw new IllegalStateException(name + " is not set: start the suite through interop-tests/run.sh");
        }
        return value;
    }

    /** A file in it. */
    public static Path file(String name) {
        return Path.of(environment("LOCKSTEP_INTEROP_HOME")).resolve(name);
    }

    /** The key of a policy in policies.json, which is one flat object of strings. */
    public static String key(String policy) {
        try {
            String text = Files.readString(file("policies.json"));
            Matcher found = Pattern.compile('"' + Pattern.quote(policy) + "\"\\s*:\\s*\"([^\"]*)\"").matcher(text);
            if (!found.find()) {
                throw new IllegalStateException("no policy " + policy + " in policies.json");
            }
            return found.group(1);
        } catch (IOException failed) {
            throw new IllegalStateException(failed);
        }
    }
}
