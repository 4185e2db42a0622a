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
if [ -z "${LIBCLANG_PATH:-}" ] && ! compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null &&
    ! compgen -G '/usr/lib/*/libclang*.so*' >/dev/null && ! compgen -G '/usr/lib64/libclang*.so*' >/dev/null; then
    # Runtime library and headers are 20 MB; libclang-dev would bring 240 MB.
    if apt-cache show libclang1-14 >/dev/null 2>&1; then
        missing+=(libclang1-14 libclang-common-14-dev)
    else
        missing+=(libclang-dev)
    fi
fi
if [ "$purpose" = test ]; then
    need openssl openssl
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    need node nodejs
    need npm npm
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
