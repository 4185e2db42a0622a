package lockstep.interop;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import org.junit.jupiter.api.extension.ExtendWith;

/** A class of scenarios of one client. A scenario is a test method of its name, whose queue has that name, too. */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
@ExtendWith(ScenarioExtension.class)
public @interface Scenarios {
    /** The client's name in {@code scenarios.md}. */
    String client();
}
