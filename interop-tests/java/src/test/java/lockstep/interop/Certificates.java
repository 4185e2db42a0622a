package lockstep.interop;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** TLS with the authority and the client certificates of the run. */
public final class Certificates {
    private static final char[] NO_PASSWORD = {};

    private Certificates() {}

    /** TLS that trusts the broker and shows the client certificate {@code name}. */
    public static SSLContext context(String name) throws GeneralSecurityException, IOException {
        KeyStore trusted = empty();
        trusted.setCertificateEntry("authority", certificate("ca"));
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyStore own = empty();
        own.setKeyEntry(name, key(name), NO_PASSWORD, new Certificate[] {certificate(name)});
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, NO_PASSWORD);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static KeyStore empty() throws GeneralSecurityException, IOException {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, NO_PASSWORD);
        return store;
    }

    private static Certificate certificate(String name) throws GeneralSecurityException, IOException {
        try (InputStream pem = Files.newInputStream(Home.file("certs/" + name + ".pem"))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(pem);
        }
    }

    private static PrivateKey key(String name) throws GeneralSecurityException, IOException {
        String pem = Files.readString(Home.file("certs/" + name + "-key.pem"));
        byte[] encoded = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(encoded));
    }
}
