package lockstep.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.net.URLEncoder;
import java.security.GeneralSecurityException;
import java.time.Instant;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** A shared access signature, as any client would make it. */
public final class SasToken {
    private SasToken() {}

    /** For {@code resource}, with the key of {@code policy}, that is good for ten minutes. */
    public static String of(String policy, String resource) {
        String audience = URLEncoder.encode(resource, UTF_8);
        long expiry = Instant.now().getEpochSecond() + 600;
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(Home.key(policy).getBytes(UTF_8), "HmacSHA256"));
            byte[] signature = mac.doFinal((audience + "\n" + expiry).getBytes(UTF_8));
            String encoded = URLEncoder.encode(Base64.getEncoder().encodeToString(signature), UTF_8);
            return "SharedAccessSignature sr=%s&sig=%s&se=%d&skn=%s".formatted(audience, encoded, expiry, policy);
        } catch (GeneralSecurityException failed) {
            throw new IllegalStateException(failed);
        }
    }
}
