#!/usr/bin/env bash
# Where the broker's processor time goes: samples a release build under `lockstep bench pipe`, over
# plain TCP and over TLS, and prints time by stage as a Markdown table for docs/performance.md.
#
#   benches/profile.sh [--bin PROGRAM] [--runs N] [--duration SECONDS] [--rate HZ] [--out DIR]
#                      [--data-root DIR]
#
# The sampler is `perf record` with the kernel's software clock, so no hardware counters are needed
# and nothing is built into the broker. Plain and TLS runs alternate; of the last of each stay
# profile-plain.svg and profile-tls.svg in DIR (--out), flame graphs. Every run starts a broker of its own
# in an empty directory under --data-root, on a free port of 127.0.0.1, and ends it afterwards.
# Needs perf (Debian: linux-perf), addr2line (binutils), openssl, python3, and leave to sample
# (root, or kernel.perf_event_paranoid of at most 1).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin="" runs=3 duration=10 rate=997 out="" data_root=${TMPDIR:-/tmp}
while [ $# -gt 0 ]; do
    case $1 in
    --bin) bin=$2 ;;
    --runs) runs=$2 ;;
    --duration) duration=$2 ;;
    --rate) rate=$2 ;;
    --out) out=$2 ;;
    --data-root) data_root=$2 ;;
    *)
        sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
    esac
    shift 2
done
for tool in perf addr2line openssl python3; do
    command -v "$tool" >/dev/null || {
        echo "profile.sh: $tool is missing" >&2
        exit 1
    }
done
if [ -z "$bin" ]; then
    # shellcheck disable=SC1091
    source "$root/.ci/env.sh"
    eval "$("$root/.ci/rocksdb.sh" --env)"
    (cd "$root" && cargo build --release --quiet --locked -p lockstep-cli)
    bin=$CARGO_TARGET_DIR/release/lockstep
fi
out=${out:-${CARGO_TARGET_DIR:-$root/target}/flames}
mkdir -p "$out"
work=$(mktemp -d "$data_root/lockstep-profile.XXXXXX")
broker=""
finish() {
    if [ -n "$broker" ]; then kill "$broker" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

export LOCKSTEP_BENCH_KEY=profile-only-key
cat >"$work/lockstep.toml" <<TOML
[[namespace]]
name = "bench"
[[namespace.policy]]
name = "RootManageSharedAccessKey"
primary_key = "$LOCKSTEP_BENCH_KEY"
rights = ["Manage", "Send", "Listen"]
[[namespace.queue]]
name = "bench-0"
TOML
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=localhost" \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -addext "basicConstraints=critical,CA:FALSE" \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_broker() {
    port=$(free_port)
    rm -rf "$work/data"
    # One listener for all: it tells TLS from plain by the first byte.
    "$bin" serve --config "$work/lockstep.toml" --data-dir "$work/data" --listen "127.0.0.1:$port" \
        --cert "$work/cert.pem" --key "$work/key.pem" >"$work/broker.log" 2>&1 &
    broker=$!
    # Healthy, not just listening: perf samples the threads that are there when it begins.
    for _ in $(seq 300); do
        if python3 - "$port" 2>/dev/null <<'PY'; then return; fi
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=5)
PY
        kill -0 "$broker" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/broker.log" >&2
    echo "profile.sh: the broker did not start" >&2
    exit 1
}

stop_broker() {
    kill "$broker"
    wait "$broker" || true
    broker=""
}

# Twice: the processor time of a message is taken without the sampler, which costs some itself.
profile() { # NAME SCHEME RUN [OPTIONS OF BENCH]
    local name=$1 scheme=$2 run=$3 load
    shift 3
    echo "profile.sh: $name, run $run of $runs" >&2
    load=("$bin" bench pipe --quiet --json --duration "$duration" "$@" --address)
    start_broker
    "${load[@]}" "$scheme://localhost:$port" --pid "$broker" >"$work/$name-$run.json"
    stop_broker
    start_broker
    # Ended by the broker's own end.
    perf record --quiet -e cpu-clock -F "$rate" --call-graph dwarf,16384 -p "$broker" \
        -o "$work/$name.data" 2>"$work/perf.log" &
    local sampler=$!
    "${load[@]}" "$scheme://localhost:$port" >/dev/null
    stop_broker
    wait "$sampler" || true
    [ -s "$work/$name.data" ] || {
        cat "$work/perf.log" >&2
        exit 1
    }
    perf script -i "$work/$name.data" --no-inline -F comm,ip,sym,dso 2>/dev/null >"$work/$name-$run.script"
    rm "$work/$name.data"
}

for run in $(seq "$runs"); do
    profile plain amqp "$run"
    profile tls amqps "$run" --tls-ca "$work/cert.pem"
done
python3 "$root/benches/profile.py" --bin "$bin" --dir "$work" --runs "$runs" --out "$out"
echo "flame graphs: $out/profile-plain.svg $out/profile-tls.svg" >&2
