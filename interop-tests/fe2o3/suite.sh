# fe2o3-amqp, a library of AMQP 1.0 for Rust. Sourced by ../run.sh.

# Arguments of run_fe2o3 are those of a test program (names to run, --test-threads, …).
install_fe2o3() { cargo test --quiet --package lockstep-interop-fe2o3 --test scenarios --no-run; }

run_fe2o3() (
  cd "$here/fe2o3"
  cargo test --quiet --package lockstep-interop-fe2o3 --test scenarios -- "$@"
)
