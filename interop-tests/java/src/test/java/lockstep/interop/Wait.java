package lockstep.interop;

import java.util.concurrent.Callable;

/** Waits for what happens. */
public final class Wait {
    /** What a message needs to reach a waiting receiver, with room for a busy machine. */
    public static final long DELIVERY_MS = 15_000;
    /** How long is looked at a place where nothing may arrive. */
    public static final long NOTHING_MS = 1_000;

    private Wait() {}

    /** Polls until {@code condition} holds. */
    public static void until(String what, long withinMs, Callable<Boolean> condition) throws InterruptedException {
        long end = System.nanoTime() + withinMs * 1_000_000;
        try {
            while (!condition.call()) {
                if (System.nanoTime() > end) {
                    throw new AssertionError(what + " did not happen within " + withinMs + " ms");
                }
                Thread.sleep(20);
            }
        } catch (RuntimeException | InterruptedException failed) {
            throw failed;
        } catch (Exception failed) {
            throw new AssertionError(what + " failed", failed);
        }
    }

    /** Lets real time pass where the passing of time is the subject: a lock that runs out. */
    public static void forTimeToPass(long milliseconds) throws InterruptedException {
        Thread.sleep(milliseconds);
    }
}
