# Raw AMQP frames. Sourced by ../run.sh.

# Arguments of run_amqp are those of a test program (names to run, --test-threads, …).
install_amqp() {
  cargo test --quiet --package lockstep-interop-amqp --test scenarios --test conformance --test dotnet --no-run
}

run_amqp() (
  cd "$here/amqp"
  cargo test --quiet --package lockstep-interop-amqp --test scenarios --test conformance --test dotnet -- "$@"
)
