#!/usr/bin/env bash
# Runs the same durable work on Lockstep, RabbitMQ and ActiveMQ Artemis, in alternating rounds on
# this machine, and prints medians and ratios with all versions as Markdown.
#
#   benches/peers/run.sh [--bin PROGRAM] [--rounds N] [--duration SECONDS] [--warm-up SECONDS]
#                        [--connections N] [--peers "lockstep rabbitmq-quorum ..."] [--rate N]
#                        [--data-root DIR] [--raw FILE]
#
# The work: bodies of 1 KiB, durable, sent unsettled with up to 500 under way on each sending
# connection, received with a credit of 1,000 on each receiving one, accepted there; plain TCP on
# loopback, one durable queue. After it `latency` at --rate messages a second (0: not). Each
# broker is started in an empty directory under --data-root for each round and ended after it, so
# that one runs at a time; nothing is installed and no service is registered. Needs Linux, apt, dpkg,
# mvn, a JRE of version 17 or later, and python3. With the defaults it takes about 10 minutes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin="" rounds=3 duration=10 warm_up=3 connections=2 rate=500 raw=""
data_root=${TMPDIR:-/tmp} peers="lockstep rabbitmq-quorum rabbitmq-classic artemis"
while [ $# -gt 0 ]; do
    case $1 in
    --bin) bin=$2 ;;
    --rounds) rounds=$2 ;;
    --duration) duration=$2 ;;
    --warm-up) warm_up=$2 ;;
    --connections) connections=$2 ;;
    --peers) peers=$2 ;;
    --rate) rate=$2 ;;
    --data-root) data_root=$2 ;;
    --raw) raw=$2 ;;
    *)
        sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
    esac
    shift 2
done

fail() {
    echo "peers: $*" >&2
    exit 1
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

wait_for_port() { # PORT SECONDS
    local try
    for try in $(seq $(($2 * 10))); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
        kill -0 "$broker_pid" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

source "$here/lockstep.sh"
source "$here/rabbitmq.sh"
source "$here/artemis.sh"

if [ -z "$bin" ]; then
    # shellcheck disable=SC1091
    source "$root/.ci/env.sh"
    eval "$("$root/.ci/rocksdb.sh" --env)"
    (cd "$root" && cargo build --release --quiet --locked -p lockstep-cli)
    bin=$CARGO_TARGET_DIR/release/lockstep
fi
revision=${LOCKSTEP_REVISION:-$(git -C "$root" rev-parse --short HEAD 2>/dev/null || true)}
cache=${LOCKSTEP_CACHE_DIR:-$HOME/.cache/lockstep}/peers
mkdir -p "$cache"
case $peers in *rabbitmq*) rabbitmq_at=$(rabbitmq_install "$cache") ;; esac
case $peers in *artemis*) artemis_at=$(artemis_install "$cache") ;; esac

work=$(mktemp -d "$data_root/lockstep-peers.XXXXXX")
running=""
stop_broker() {
    case $running in
    lockstep) lockstep_stop ;;
    rabbitmq-*) rabbitmq_stop ;;
    artemis) artemis_stop ;;
    esac
    running=""
}
trap 'stop_broker; rm -rf "$work"' EXIT

start_broker() { # PEER DIRECTORY
    running=$1
    mkdir -p "$2"
    case $1 in
    lockstep)
        lockstep_start "$bin" "$2"
        version=$(lockstep_version "$bin") durability=$(lockstep_durability)
        ;;
    rabbitmq-*)
        rabbitmq_start "$rabbitmq_at" "$2" "${1#rabbitmq-}"
        version="$(rabbitmq_version "$rabbitmq_at"), ${1#rabbitmq-} queue" durability=$(rabbitmq_durability "${1#rabbitmq-}")
        ;;
    artemis)
        artemis_start "$artemis_at" "$2"
        version=$(artemis_version) durability=$(artemis_durability)
        ;;
    *) fail "unknown peer $1" ;;
    esac
}

# Counts the broker's calls of fdatasync and fsync in the background, where perf may trace system
# calls; a call costs it a microsecond or so more.
count_syncs() {
    local events=syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync
    rm -f "$work/syncs"
    perf_job=""
    perf stat -x, -e $events -p "$broker_pid" -o "$work/syncs" sleep 0.01 2>/dev/null || return 0
    perf stat -x, -e $events -p "$broker_pid" -o "$work/syncs" 2>/dev/null &
    perf_job=$!
}

# Prints how many there were, or nothing.
syncs_counted() {
    [ -n "$perf_job" ] || return 0
    kill -INT "$perf_job" && wait "$perf_job" || true
    awk -F, '$3 ~ /fsync|fdatasync/ { sum += $1 } END { print sum + 0 }' "$work/syncs"
}

measure() { # PEER SCENARIO OPTIONS...
    local peer=$1 scenario=$2
    shift 2
    count_syncs
    "$bin" bench "$scenario" --address "$broker_address" --queue "$broker_queue" --pid "$broker_pid" \
        --settle first --durable true --size 1024 --quiet --json "$@" >"$work/run" ||
        fail "$scenario on $peer failed"
    syncs_counted >"$work/sync-count"
    python3 - "$peer" "$version" "$durability" "$work/run" "$work/sync-count" >>"$work/results" <<'PY'
import json, sys
peer, version, durability, *files = sys.argv[1:]
run, syncs = [open(file, encoding="utf-8").read() for file in files]
run = {"peer": peer, "version": version, "durability": durability, **json.loads(run)}
if syncs.strip():
    # Those of the warm-up, which has the same load, are among them.
    run["syncs_per_s"] = int(syncs) / (run["seconds"] + run["warm_up_s"])
print(json.dumps(run))
PY
}

for round in $(seq "$rounds"); do
    for peer in $peers; do
        echo "peers: round $round of $rounds, $peer" >&2
        start_broker "$peer" "$work/$peer"
        measure "$peer" pipe --connections "$connections" --in-flight 500 --credit 1000 \
            --duration "$duration" --warm-up "$warm_up"
        if [ "$rate" -gt 0 ]; then
            measure "$peer" latency --rate "$rate" --duration "$duration" --warm-up 1
        fi
        stop_broker
        rm -rf "${work:?}/$peer"
    done
done
if [ -n "$raw" ]; then cp "$work/results" "$raw"; fi
python3 "$here/table.py" "$work/results"
