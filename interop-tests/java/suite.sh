# Java: Qpid JMS and protonj2-client, two clients in one Maven project. Sourced by ../run.sh.

maven_java() { # GOAL...: the project, with its repository and its output under the cache directory
  mvn --batch-mode --no-transfer-progress --strict-checksums --file "$here/java/pom.xml" -Dstyle.color=never \
    "-Dmaven.repo.local=$cache/maven" "-Dlockstep.build=$cache/java-build" "$@"
}

# Downloads what this pom.xml has not been seen to have, and compiles. A run of no test brings what running needs.
install_java() {
  local marker
  marker=$cache/maven/complete-$(key_of "$here/java/pom.xml")
  if [ ! -e "$marker" ]; then
    again maven_java --quiet test -Dtest=NoneScenarios -Dsurefire.failIfNoSpecifiedTests=false && touch "$marker"
  else
    maven_java --quiet --offline test-compile
  fi
}

# Arguments are Maven's (-Dtest=JmsQueueScenarios, …). What is left of its output is the report of the tests.
run_java() {
  local status=0
  maven_java --offline test "$@" > "$work/java.log" 2>&1 || status=$?
  sed -E 's/\x1b\[[0-9;]*m//g; /^\[INFO\] (Tests run|Running)/{s/^\[INFO\] //;p;d}; /^\[(INFO|WARNING)\]/d; /^\[ERROR\] *($|->|To see|Re-run|For more|\[Help)/d' "$work/java.log"
  return $status
}
