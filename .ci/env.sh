# Sourced by the scripts here and used by the Makefile: where everything is built and cached.
# One target directory outside the checkout, for tests, interop and documents alike.
export LOCKSTEP_CACHE_DIR="${LOCKSTEP_CACHE_DIR:-$HOME/.cache/lockstep}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$LOCKSTEP_CACHE_DIR/target}"
# Downloads fail now and then.
export CARGO_NET_RETRY="${CARGO_NET_RETRY:-10}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
# Incremental state doubles the cache and helps only whoever edits.
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
export PATH="$LOCKSTEP_CACHE_DIR/bin:$PATH"

retry() { # COMMAND...: three times, with a pause
    local try
    for try in 1 2 3; do
        "$@" && return 0
        echo "try $try of 3 failed: $*" >&2
        sleep $((try * 5))
    done
    return 1
}
