#!/usr/bin/env bash
# Licences, bans and sources of all dependencies (deny.toml); advisories where their database can
# be reached. cargo-deny is compiled once into the cache. Where it can neither be found nor be
# installed, the stage says so and passes: it checks the world outside, not this code.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

VERSION=0.20.2
# Reading the database may hang where there is no network.
ADVISORIES_TIME_OUT_S=120

if ! cargo deny --version >/dev/null 2>&1; then
    echo "compiling cargo-deny $VERSION, once"
    # Not optimised: it runs for seconds and compiles for minutes. The target directory is its
    # own, so that nothing of ours is rebuilt.
    if ! CARGO_TARGET_DIR="$LOCKSTEP_CACHE_DIR/build-cargo-deny" retry cargo install --quiet --debug --locked \
        --root "$LOCKSTEP_CACHE_DIR" --version "$VERSION" cargo-deny; then
        echo "note: cargo-deny cannot be installed here; licences, bans and sources were NOT checked"
        exit 0
    fi
    rm -rf "$LOCKSTEP_CACHE_DIR/build-cargo-deny"
fi

cargo deny --locked check licenses bans sources

if timeout "$ADVISORIES_TIME_OUT_S" cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "note: the advisory database cannot be reached; advisories were NOT checked"
fi
