#!/usr/bin/env bash
# Builds RocksDB's C++ once, as a static archive, into a cache outside the checkout.
#
#   .ci/rocksdb.sh          prints the directory that holds librocksdb.a
#   .ci/rocksdb.sh --env    prints shell lines that make cargo use it: eval "$(.ci/rocksdb.sh --env)"
#   .ci/rocksdb.sh --key    prints the name of the cache entry and builds nothing
#
# The first run takes about 15 minutes on two cores (19 minutes of processor time), every later one
# well under a second. The entry's name holds everything the archive depends on: the version of
# librocksdb-sys from Cargo.lock, its features, the machine type, the C++ compiler's major version
# and the flags. liblz4 needs no cache: lz4-sys builds it in two seconds, in every target directory.
# Progress goes to standard error, only the answer to standard output.
set -euo pipefail

FEATURES="lz4 bindgen-runtime"  # as in crates/store/Cargo.toml
OPT_LEVEL=3                     # -O3, no debug information, no -march
RECIPE=1                        # raise it when this script changes what the archive holds

# Checksums of the log take a sixth of the store's processor time unless they use the instructions
# made for them, which every x86-64 server processor since 2010 has. Only the one file that computes
# them is compiled for these; all others run on any machine of the type.
case "$(uname -m)" in
    x86_64) CHECKSUM_FLAGS="-msse4.2 -mpclmul" ;;
    *) CHECKSUM_FLAGS="" ;;
esac

say() { echo "rocksdb.sh: $*" >&2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

locked_version() { # the version of a package in the workspace's Cargo.lock
    awk -v name="$1" '$1 == "name" { found = ($3 == "\"" name "\"") }
        found && $1 == "version" { gsub(/"/, "", $3); print $3; exit }' "$root/Cargo.lock"
}

sys_version=$(locked_version librocksdb-sys)
crate_version=$(locked_version rocksdb)
if [ -z "$sys_version" ] || [ -z "$crate_version" ]; then
    say "Cargo.lock names no rocksdb crate; run 'cargo metadata' in $root first"
    exit 1
fi

has() { compgen -G "$1" >/dev/null; } # whether a file matches the pattern

# g++ and make compile, libclang reads c.h for the Rust bindings (bindgen), on every machine that
# builds the crate, cached archive or not.
install_missing_packages() {
    local missing=()
    command -v g++ >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    if [ -z "${LIBCLANG_PATH:-}" ] && ! has '/usr/lib/llvm-*/lib/libclang[.-][0-9s]*' &&
        ! has '/usr/lib/*/libclang[.-][0-9s]*' && ! has '/usr/lib64/libclang[.-][0-9s]*'; then
        missing+=(libclang-dev)
    fi
    [ ${#missing[@]} -eq 0 ] && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq >&2
        # The runtime library and its headers are 20 MB; libclang-dev would bring 240 MB.
        if [[ " ${missing[*]} " == *" libclang-dev "* ]] && apt-cache show libclang1-14 >/dev/null 2>&1; then
            missing=("${missing[@]/libclang-dev/libclang1-14}" libclang-common-14-dev)
        fi
        say "installing ${missing[*]}"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
    else
        say "missing packages: ${missing[*]} (Debian names). Install them, for instance with"
        say "    sudo apt-get install ${missing[*]}"
        exit 1
    fi
}

install_missing_packages
# A libclang without its own headers can use those of g++.
if ! has '/usr/lib/clang/*/include/stddef.h' && ! has '/usr/lib/llvm-*/lib/clang/*/include/stddef.h'; then
    export BINDGEN_EXTRA_CLANG_ARGS="${BINDGEN_EXTRA_CLANG_ARGS:--I$(g++ -print-file-name=include)}"
fi
flags="opt-level=$OPT_LEVEL crc32c[$CHECKSUM_FLAGS] $(uname -s) $(uname -m) g++ $(g++ -dumpversion | cut -d. -f1) recipe $RECIPE"
flags_hash=$(printf '%s' "$flags" | sha256sum | cut -c1-8)
key="rocksdb-$sys_version-${FEATURES// /+}-$flags_hash"
if [ "${1:-}" = --key ]; then
    echo "$key"
    exit
fi
cache="${LOCKSTEP_CACHE_DIR:-$HOME/.cache/lockstep}"
entry="$cache/$key"

# Compiles RocksDB's crc32c.cc with CHECKSUM_FLAGS and puts it in the place of the one in the archive.
# $1: the crate's directory, $2: the archive, $3: a directory to work in.
speed_up_checksums() {
    [ -n "$CHECKSUM_FLAGS" ] || return 0
    local member
    member=$(ar t "$2" | grep -- '-crc32c\.o$')
    # shellcheck disable=SC2086 # several flags
    (cd "$1" && g++ -std=c++20 -O"$OPT_LEVEL" -DNDEBUG -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX \
        -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -ffunction-sections -fdata-sections -fPIC -include cstdint \
        $CHECKSUM_FLAGS -Irocksdb/include -Irocksdb -I. -c rocksdb/util/crc32c.cc -o "$3/$member")
    (cd "$3" && ar r "$2" "$member" 2>/dev/null && rm "$member")
}

# A project of nothing but the crate, so that the archive does not depend on what else the
# workspace holds. Cargo.lock is the workspace's: cargo keeps the versions and drops the rest.
build() {
    local work="$cache/build-$key"
    mkdir -p "$work/src"
    : >"$work/src/lib.rs"
    cp "$root/Cargo.lock" "$work/Cargo.lock"
    local feature_list
    feature_list=$(printf '"%s", ' $FEATURES)
    cat >"$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-archive"
version = "0.0.0"
edition = "2021"
publish = false

[dependencies]
rocksdb = { version = "=$crate_version", default-features = false, features = [${feature_list%, }] }

[profile.release]
opt-level = $OPT_LEVEL
debug = false
TOML
    say "compiling RocksDB $sys_version, once (about 19 minutes of processor time)"
    (
        cd "$work"
        env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CFLAGS -u CXXFLAGS \
            -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$work/target" cargo build --release >&2
    )
    local archive crate
    archive=$(ls -t "$work"/target/release/build/librocksdb-sys-*/out/librocksdb.a | head -n 1)
    crate=$(sed -n 's/^cargo:cargo_manifest_dir=//p' "$(dirname "$(dirname "$archive")")/output")
    mkdir -p "$entry"
    speed_up_checksums "$crate" "$archive" "$work"
    # Renamed into place, so that a half-copied archive is never found.
    cp "$archive" "$entry/librocksdb.a.new"
    echo "$flags" >"$entry/flags"
    mv "$entry/librocksdb.a.new" "$entry/librocksdb.a"
    rm -rf "$work"
}

if [ ! -f "$entry/librocksdb.a" ]; then
    mkdir -p "$cache"
    # Two builds at once would do the work twice: the second waits, then finds the archive.
    exec 9>"$cache/$key.lock"
    flock 9
    [ -f "$entry/librocksdb.a" ] || build
fi

if [ "${1:-}" = --env ]; then
    echo "export ROCKSDB_LIB_DIR='$entry' ROCKSDB_STATIC=1"
    [ -z "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] || echo "export BINDGEN_EXTRA_CLANG_ARGS='$BINDGEN_EXTRA_CLANG_ARGS'"
else
    echo "$entry"
fi
