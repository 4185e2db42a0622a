# ActiveMQ Artemis from Maven Central: the binary distribution is unpacked into the cache, and each
# run makes an instance of its own under its directory, on loopback. Sourced.

ARTEMIS_VERSION=2.40.0
ARTEMIS_SHA256=3add67e7b0af89f81eac1e6c577427b049b4e7502fb278c591838465d5ca93b5

artemis_install() { # CACHE: prints the directory
    local cache=$1/artemis archive
    if [ ! -e "$cache/apache-artemis-$ARTEMIS_VERSION/done" ]; then
        mkdir -p "$cache"
        mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dmdep.useBaseVersion=true \
            -Dartifact="org.apache.activemq:apache-artemis:$ARTEMIS_VERSION:tar.gz:bin" \
            -DoutputDirectory="$cache" >&2
        archive=$cache/apache-artemis-$ARTEMIS_VERSION-bin.tar.gz
        echo "$ARTEMIS_SHA256  $archive" | sha256sum --check --quiet >&2 || fail "$archive is not what is expected"
        tar -xzf "$archive" -C "$cache" && rm "$archive"
        touch "$cache/apache-artemis-$ARTEMIS_VERSION/done"
    fi
    echo "$cache/apache-artemis-$ARTEMIS_VERSION"
}

artemis_version() {
    echo "ActiveMQ Artemis $ARTEMIS_VERSION ($(java -version 2>&1 | sed -n '1s/"//gp'), journal ${artemis_journal^^})"
}

# ASYNCIO needs libaio, which a machine may lack.
artemis_journal=nio
if ldconfig -p 2>/dev/null | grep -q 'libaio\.so\.1'; then artemis_journal=aio; fi

# Starts a broker with a durable queue `bench-0`; sets broker_pid, broker_address, broker_queue.
artemis_start() { # ROOT DIRECTORY
    local port
    port=$(free_port)
    # Everything that is not named is the distribution's own choice; the journal syncs.
    "$1/bin/artemis" create --silent --name peer --host 127.0.0.1 --default-port "$port" "--$artemis_journal" \
        --user bench --password bench --require-login --queues bench-0 --data "$2/data" \
        --no-web --no-amqp-acceptor --no-hornetq-acceptor --no-mqtt-acceptor --no-stomp-acceptor \
        "$2/instance" >"$2.create" 2>&1 || { cat "$2.create" >&2; fail "artemis create failed"; }
    grep -q '<journal-datasync>true' "$2/instance/etc/broker.xml" || fail "the journal of Artemis would not sync"
    "$2/instance/bin/artemis" run >"$2/stdout" 2>&1 &
    broker_pid=$!
    wait_for_port "$port" 180 || { cat "$2/stdout" >&2; fail "Artemis did not start"; }
    broker_address="amqp://bench:bench@127.0.0.1:$port"
    broker_queue=bench-0
}

artemis_stop() {
    kill "$broker_pid" 2>/dev/null || true
    wait "$broker_pid" 2>/dev/null || true
}

artemis_durability() {
    echo "journal written and synced (journal-datasync) in batches by its timed buffer before the outcome"
}
