#!/usr/bin/env bash
# Raw AMQP frames against the real broker. Called by ../run.sh, which sets LOCKSTEP_BIN, LOCKSTEP_INTEROP_HOME and
# LOCKSTEP_INTEROP_RESULTS; arguments are those of a test program (names to run, --test-threads, …).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export LOCKSTEP_BIN=${LOCKSTEP_BIN:-${CARGO_TARGET_DIR:-$PWD/../../target}/debug/lockstep}
exec cargo test --quiet --package lockstep-interop-amqp --test scenarios -- "$@"
