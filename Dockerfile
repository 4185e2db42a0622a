# syntax=docker/dockerfile:1
# The first build compiles RocksDB's C++ (10 to 20 minutes on two cores); cache mounts keep it.
FROM rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libclang1-14 libclang-common-14-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/cache \
    --mount=type=cache,target=/usr/local/cargo/registry \
    export LOCKSTEP_CACHE_DIR=/cache CARGO_TARGET_DIR=/cache/target \
    && lines="$(.ci/rocksdb.sh --env)" && eval "$lines" \
    && cargo build --release --locked --package lockstep-cli \
    && install -D /cache/target/release/lockstep /out/lockstep

FROM debian:bookworm-slim
# The archive of RocksDB is linked in; its C++ runtime is not.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin lockstep \
    && install -d -o lockstep -g lockstep -m 0750 /data
COPY --from=build /out/lockstep /usr/local/bin/lockstep
USER lockstep
WORKDIR /data
VOLUME /data
# In a container, loopback is the container's own: listen on all addresses, each port for every protocol.
ENV LOCKSTEP_DATA_DIR=/data \
    LOCKSTEP_LISTEN=0.0.0.0:5672,0.0.0.0:5671,0.0.0.0:5300
EXPOSE 5672 5671 5300
STOPSIGNAL SIGTERM
# Health means that a durable write works. The image has no HTTP client; bash can speak TCP.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5672 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["lockstep"]
CMD ["serve"]
