#!/usr/bin/env bash
# Measures the broker and prints the medians as a Markdown table for docs/performance.md.
#
#   benches/figures.sh [--bin PROGRAM] [--runs N] [--duration SECONDS] [--data-root DIR] [--raw FILE]
#
# Without --bin the release build is made first. Every run starts a broker of its own in an empty
# directory under --data-root (default: the system's temporary directory), on a free port of
# 127.0.0.1, and ends it afterwards. Load and broker share the machine. --raw keeps each run's JSON.
# Needs bash and python3; syncs are counted where perf may trace system calls. With the default three runs of 10 seconds it takes about 5 minutes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin="" runs=3 duration=10 data_root=${TMPDIR:-/tmp} raw=""
while [ $# -gt 0 ]; do
    case $1 in
    --bin) bin=$2 ;;
    --runs) runs=$2 ;;
    --duration) duration=$2 ;;
    --data-root) data_root=$2 ;;
    --raw) raw=$2 ;;
    *)
        sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
    esac
    shift 2
done
if [ -z "$bin" ]; then
    eval "$("$root/.ci/rocksdb.sh" --env)"
    (cd "$root" && cargo build --release --quiet -p lockstep-cli)
    bin=${CARGO_TARGET_DIR:-$root/target}/release/lockstep
fi

work=$(mktemp -d "$data_root/lockstep-figures.XXXXXX")
broker=""
finish() {
    if [ -n "$broker" ]; then kill "$broker" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

export LOCKSTEP_BENCH_KEY=figures-only-key
cat >"$work/lockstep.toml" <<TOML
[[namespace]]
name = "bench"
[[namespace.policy]]
name = "RootManageSharedAccessKey"
primary_key = "$LOCKSTEP_BENCH_KEY"
rights = ["Manage", "Send", "Listen"]
$(for index in 0 1 2 3; do printf '[[namespace.queue]]\nname = "bench-%s"\n' "$index"; done)
[[namespace.queue]]
name = "bench-sessions"
requires_session = true
TOML

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_broker() {
    port=$(free_port)
    rm -rf "$work/data"
    "$bin" serve --config "$work/lockstep.toml" --data-dir "$work/data" --listen "127.0.0.1:$port" \
        >"$work/broker.log" 2>&1 &
    broker=$!
    for _ in $(seq 200); do
        if python3 - "$port" <<'PY'; then return; fi
import sys, urllib.request
try:
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=5)
except OSError:
    sys.exit(1)
PY
        kill -0 "$broker" 2>/dev/null || break
        sleep 0.05
    done
    cat "$work/broker.log" >&2
    echo "figures.sh: the broker did not start" >&2
    exit 1
}

stop_broker() {
    kill "$broker"
    wait "$broker" || true
    broker=""
}

# Counts the broker's syncs in the background, if that is allowed; each costs it a microsecond or so.
count_syncs() {
    perf_pid=""
    perf stat -x, -e syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync -p "$broker" \
        -o "$work/syncs" sleep 0.01 2>/dev/null || return 0
    perf stat -x, -e syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync -p "$broker" \
        -o "$work/syncs" 2>/dev/null &
    perf_pid=$!
    sleep 0.3
}

# A member for the run's JSON object, or nothing. The count ends with the broker.
syncs_counted() {
    [ -n "$perf_pid" ] || return 0
    tail --pid="$perf_pid" -f /dev/null
    awk -F, '$3 ~ /fsync|fdatasync/ { sum += $1 } END { printf "\"syncs\":%d,", sum }' "$work/syncs"
}

measure() { # a name, the scenario, its options
    local name=$1 scenario=$2
    shift 2
    for run in $(seq "$runs"); do
        echo "figures.sh: $name, run $run of $runs" >&2
        start_broker
        count_syncs
        "$bin" bench "$scenario" --address "127.0.0.1:$port" --pid "$broker" --quiet --json "$@" >"$work/run"
        stop_broker
        sed "s/^{/{\"name\":\"$name\",$(syncs_counted)/" "$work/run" >>"$work/results"
    done
}

for run in $(seq "$runs"); do
    echo "figures.sh: start, run $run of $runs" >&2
    "$bin" bench start --bin "$bin" --config "$work/lockstep.toml" --data-dir "$work/start-$run" --json |
        sed 's/^{/{"name":"start",/' >>"$work/results"
done
measure "pipe 2+2" pipe --connections 2 --duration "$duration"
measure "pipe 4+4" pipe --connections 4 --duration "$duration"
measure "pipe 4+4, 4 queues" pipe --connections 4 --queues 4 --duration "$duration"
measure "sessions" sessions --rounds 20
measure "sessions, filled before" sessions --rounds 20 --prefill
measure "latency" latency --rate 1000 --duration "$duration" --data-dir "$work"

if [ -n "$raw" ]; then cp "$work/results" "$raw"; fi
python3 "$root/benches/medians.py" "$work/results"
