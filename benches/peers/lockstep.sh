# Lockstep itself, with one queue `bench-0`. Sourced.

lockstep_version() { # PROGRAM
    echo "Lockstep $("$1" --version | awk '{ print $NF }')${revision:+ ($revision)}"
}

# Starts a broker; sets broker_pid, broker_address, broker_queue.
lockstep_start() { # PROGRAM DIRECTORY
    local port
    port=$(free_port)
    mkdir -p "$2"
    cat >"$2/lockstep.toml" <<TOML
[[namespace]]
name = "bench"
[[namespace.policy]]
name = "bench"
primary_key = "bench"
rights = ["Manage", "Send", "Listen"]
[[namespace.queue]]
name = "bench-0"
TOML
    "$1" serve --config "$2/lockstep.toml" --data-dir "$2/data" --listen "127.0.0.1:$port" >"$2/stdout" 2>&1 &
    broker_pid=$!
    wait_for_port "$port" 30 || { cat "$2/stdout" >&2; fail "Lockstep did not start"; }
    broker_address="amqp://bench:bench@127.0.0.1:$port"
    broker_queue=bench-0
}

lockstep_stop() {
    kill "$broker_pid" 2>/dev/null || true
    wait "$broker_pid" 2>/dev/null || true
}

lockstep_durability() {
    echo "log of RocksDB written and synced (fdatasync) once for each group of commits before the outcome"
}
