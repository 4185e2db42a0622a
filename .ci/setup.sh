#!/usr/bin/env bash
# Looks for what building and testing needs, and installs what is missing where that is possible
# (Debian and its relatives, as root). `setup.sh build` wants less than `setup.sh test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

purpose=${1:-test}
missing=()
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || missing+=("$2")
}
need g++ g++
need make make
need git git
# libclang, for RocksDB's bindings, is looked after by rocksdb.sh.
if [ "$purpose" = test ]; then
    need openssl openssl
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    need node nodejs
    need npm npm
    need javac openjdk-17-jdk-headless
    need mvn maven
    # Counts instructions.
    need valgrind valgrind
    # Qpid Proton for Python is built from source.
    need pkg-config pkg-config
    pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
    python3 -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        missing+=(python3-dev)
fi
if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing ${missing[*]}"
        retry apt-get update -qq
        DEBIAN_FRONTEND=noninteractive retry apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing packages: ${missing[*]} (Debian names). Install them, for instance with" >&2
        echo "    sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi
if ! command -v cargo >/dev/null; then
    echo "missing: Rust. Install it with rustup (https://rustup.rs), which reads rust-toolchain.toml." >&2
    exit 1
fi
if [ "$purpose" = test ] && [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    echo "Node.js 20 or later is needed by the JavaScript SDK; here is $(node --version)." >&2
    exit 1
fi
# Debian packages older ones only.
if [ "$purpose" = test ] && ! GOTOOLCHAIN=local go version 2>/dev/null | grep -Eq 'go1\.(2[5-9]|[3-9][0-9])'; then
    echo "Go 1.25 or later is needed by go-amqp (https://go.dev/dl); here is $(go version 2>/dev/null || echo none)." >&2
    exit 1
fi
