#!/usr/bin/env bash
# Coverage-guided fuzzing. docs/testing.md says what for.
#
#   fuzz/run.sh                 what CI runs: all corpora once, then SMOKE_SECONDS of each target
#   HOURS=2 fuzz/run.sh long    two hours, shared by all targets or by TARGETS="hot pair"
#   fuzz/run.sh merge           keeps of all inputs found what the coverage needs, in fuzz/corpus
#
# What is found while it runs stands in $CARGO_TARGET_DIR/fuzz/found/<target>, an input that fails
# in $CARGO_TARGET_DIR/fuzz/failed. A failure ends the run with an error.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/env.sh
what="${1:-smoke}"

# Its own flags, so its own directory; below the shared one, so that it is cached with it.
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
host="$(rustc -vV | sed -n 's/^host: //p')"
# The instrumentation that libFuzzer needs, without a sanitizer: stable rustc has it.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --locked --quiet --manifest-path fuzz/Cargo.toml --target "$host"
program="$CARGO_TARGET_DIR/$host/debug/lockstep-fuzz"

# The program lists its targets when it is given none.
known="$(FUZZ_TARGET='' "$program" -runs=0 2>/dev/null || true)"
targets="${TARGETS:-$known}"
found="$CARGO_TARGET_DIR/found"
failed="$CARGO_TARGET_DIR/failed"
mkdir -p "$failed"

# Bounds: 4 KiB an input, 5 seconds each, 1 GiB of memory, 64 MiB in one piece.
fuzz() { # TARGET OPTIONS...: with the corpus in the repository and what was found before
  local target="$1"; shift
  local options=(-max_len=4096 -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=64
    -artifact_prefix="$failed/$target-")
  [[ ! -f fuzz/dict/$target.dict ]] || options+=("-dict=fuzz/dict/$target.dict")
  local log="$failed/$target.log"
  if ! FUZZ_TARGET="$target" nice -n 19 "$program" "${options[@]}" "$@" >"$log" 2>&1; then
    grep -vE '^(#|INFO)' "$log" | head -n 40 >&2 || true
    echo "fuzz: $target failed; its input stands above and in $failed" >&2
    return 1
  fi
}

for target in $targets; do
  grep -qxF "$target" <<<"$known" || { echo "no target $target; there are $known" >&2; exit 2; }
  mkdir -p "fuzz/corpus/$target" "$found/$target"
done

case "$what" in
  smoke)
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    seconds="${SMOKE_SECONDS:-1}"
    inputs=0
    for target in $targets; do
      fuzz "$target" -runs=0 "fuzz/corpus/$target"
      inputs=$((inputs + $(find "fuzz/corpus/$target" -type f | wc -l)))
      # New inputs go where they are thrown away: CI keeps none.
      scratch="$(mktemp -d "$CARGO_TARGET_DIR/scratch.XXXXXX")"
      fuzz "$target" -max_total_time="$seconds" "$scratch" "fuzz/corpus/$target"
      rm -rf "$scratch"
    done
    echo "note: fuzz: $inputs inputs of $(wc -w <<<"$targets") targets replayed, $seconds s more of each"
    ;;
  long)
    hours="${HOURS:-1}"
    seconds="$(awk -v hours="$hours" -v targets="$(wc -w <<<"$targets")" \
      'BEGIN { printf "%d", hours * 3600 / targets + 1 }')"
    for target in $targets; do
      echo "fuzz: $target for $seconds s"
      fuzz "$target" -max_total_time="$seconds" "$found/$target" "fuzz/corpus/$target"
      sed -n 's/^#[0-9]*\tDONE */fuzz:   /p' "$failed/$target.log"
    done
    ;;
  merge)
    for target in $targets; do
      smaller="$(mktemp -d "$CARGO_TARGET_DIR/merge.XXXXXX")"
      # Coverage of edges only, not how often: a few hundred inputs, not thousands.
      fuzz "$target" -set_cover_merge=1 -use_counters=0 "$smaller" "fuzz/corpus/$target" "$found/$target"
      rm -rf "fuzz/corpus/$target"
      mv "$smaller" "fuzz/corpus/$target"
      echo "fuzz: $target keeps $(find "fuzz/corpus/$target" -type f | wc -l) inputs"
    done
    ;;
  *)
    echo "usage: fuzz/run.sh [smoke|long|merge]" >&2
    exit 2
    ;;
esac
