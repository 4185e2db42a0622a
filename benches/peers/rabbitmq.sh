# RabbitMQ from the Debian package, without installing it: the package and what it needs are
# unpacked into the cache, so that no service is registered and nothing listens on 5672. Sourced.
#
# The node has its own name, ports, cookie, data and port mapper (epmd), all on loopback and under
# the run's directory; `rabbitmq_stop` ends both.

rabbitmq_install() { # CACHE: prints the directory
    local cache=$1/rabbitmq-debian version
    version=$(apt-cache policy rabbitmq-server | awk '/Candidate:/ { print $2 }')
    [ -n "$version" ] && [ "$version" != "(none)" ] || fail "apt offers no rabbitmq-server; run apt-get update"
    if [ ! -e "$cache/$version/done" ]; then
        rm -rf "${cache:?}/$version" && mkdir -p "$cache/$version/debs"
        # apt-get verifies signatures and hashes; -s only lists what would be installed. Packages that are there already are not listed.
        (cd "$cache/$version/debs" && apt-get install -s --no-install-recommends "rabbitmq-server=$version" |
            awk '$1 == "Inst" { print $2 }' | xargs apt-get -q -o APT::Sandbox::User=root download) >&2
        for deb in "$cache/$version"/debs/*.deb; do dpkg -x "$deb" "$cache/$version/unpacked"; done
        # Erlang's starter names the place where the package would have been installed.
        local erlang=$cache/$version/unpacked/usr/lib/erlang starter
        for starter in "$erlang"/bin/{erl,start} "$erlang"/erts-*/bin/{erl,start}; do
            [ ! -e "$starter" ] || sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=$erlang|" "$starter"
        done
        touch "$cache/$version/done"
    fi
    echo "$cache/$version/unpacked"
}

rabbitmq_version() { # ROOT
    echo "RabbitMQ $(basename "$1"/usr/lib/rabbitmq/lib/rabbitmq_server-* | sed 's/.*-//')" \
        "(Debian $(basename "$(dirname "$1")"), Erlang/OTP $(cat "$(rabbitmq_erlang)"/releases/*/OTP_VERSION | head -1))"
}

# Where Erlang is: unpacked as well, unless the system had it.
rabbitmq_erlang() {
    if [ -d "$rabbitmq_root/usr/lib/erlang" ]; then echo "$rabbitmq_root/usr/lib/erlang"; else echo /usr/lib/erlang; fi
}

# Runs one of RabbitMQ's scripts in the node's environment.
rabbitmq_script() { # NAME ARGUMENTS...
    local script=$1 erlang
    shift
    erlang=$(rabbitmq_erlang)
    env HOME="$rabbitmq_dir" PATH="$erlang/bin:$PATH" \
        LD_LIBRARY_PATH="$rabbitmq_root/usr/lib/$(uname -m)-linux-gnu" \
        ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$rabbitmq_epmd_port" \
        RABBITMQ_NODENAME=lockstep-peer@localhost RABBITMQ_DIST_PORT="$rabbitmq_dist_port" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$rabbitmq_dir/rabbitmq.conf" \
        RABBITMQ_MNESIA_BASE="$rabbitmq_dir/data" RABBITMQ_LOG_BASE="$rabbitmq_dir/log" \
        RABBITMQ_PID_FILE="$rabbitmq_dir/pid" RABBITMQ_ENABLED_PLUGINS_FILE="$rabbitmq_dir/enabled_plugins" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
        "$rabbitmq_root"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/"$script" "$@"
}

# Starts a node with a durable queue `bench-0` of one type; sets broker_pid, broker_address,
# broker_queue.
rabbitmq_start() { # ROOT DIRECTORY classic|quorum
    rabbitmq_root=$1 rabbitmq_dir=$2
    local type=$3 port
    port=$(free_port) rabbitmq_epmd_port=$(free_port) rabbitmq_dist_port=$(free_port)
    mkdir -p "$rabbitmq_dir"/{data,log}
    echo '[rabbitmq_amqp1_0].' >"$rabbitmq_dir/enabled_plugins"
    cat >"$rabbitmq_dir/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
default_user = bench
default_pass = bench
CONF
    rabbitmq_script rabbitmq-server >"$rabbitmq_dir/stdout" 2>&1 &
    broker_pid=$! rabbitmq_job=$!
    wait_for_port "$port" 180 || { cat "$rabbitmq_dir/stdout" >&2; fail "RabbitMQ did not start"; }
    # The listener opens last, so one call is enough; it takes seconds, as it starts a node itself.
    rabbitmq_sync=$(rabbitmq_script rabbitmqctl -q eval "
        {new, _} = rabbit_amqqueue:declare(rabbit_misc:r(<<\"/\">>, queue, <<\"bench-0\">>), true, false,
            [{<<\"x-queue-type\">>, longstr, <<\"$type\">>}], none, <<\"bench\">>),
        application:get_env(ra, wal_sync_method, default).") || fail "RabbitMQ declared no queue: $rabbitmq_sync"
    broker_pid=$(cat "$rabbitmq_dir/pid")
    broker_address="amqp://bench:bench@127.0.0.1:$port"
    broker_queue=/amq/queue/bench-0
}

rabbitmq_stop() {
    # The node ends in order when asked to, and the script that started it with it.
    kill "$broker_pid" 2>/dev/null || true
    wait "$rabbitmq_job" 2>/dev/null || true
    ERL_EPMD_PORT=$rabbitmq_epmd_port "$(rabbitmq_erlang)/bin/epmd" -kill >/dev/null 2>&1 || true
}

# What a node syncs before it answers: the first by RabbitMQ's guide to confirms, the second by the
# node's own setting.
rabbitmq_durability() { # classic|quorum
    case $1 in
    classic) echo "message store and queue index written, synced in batches by a timer and when idle; confirm (the outcome) after that" ;;
    quorum) echo "Raft log of one member written and synced (wal_sync_method: $rabbitmq_sync) for each batch, then the confirm (the outcome)" ;;
    esac
}
