#!/usr/bin/env bash
# Runs the official Service Bus SDKs, unmodified, against the real broker.
#
#   interop-tests/run.sh             run every suite, fail when docs/compatibility.md differs from the verdicts
#   interop-tests/run.sh --update    run every suite and rewrite docs/compatibility.md
#   interop-tests/run.sh python      only the named suites (one directory each); the document is left alone
#
# LOCKSTEP_BIN         the broker; default $CARGO_TARGET_DIR/debug/lockstep
# LOCKSTEP_CACHE_DIR   where the client libraries are installed; default ~/.cache/lockstep
# LOCKSTEP_INTEROP_WORKERS   test processes of the Python suite, which mostly wait; default 6
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${LOCKSTEP_CACHE_DIR:-$HOME/.cache/lockstep}/interop

# A suite is a directory with a suite.sh, which defines install_<suite> and run_<suite>.
known=()
for file in "$here"/*/suite.sh; do known+=("$(basename "$(dirname "$file")")"); done

mode=check
suites=()
for argument in "$@"; do
  case " --update ${known[*]} " in
    *" $argument "*) ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; echo "suites: ${known[*]}" >&2; exit 2 ;;
  esac
  if [ "$argument" = --update ]; then mode=update; else suites+=("$argument"); fi
done
all=no
if [ ${#suites[@]} -eq 0 ]; then
  all=yes
  suites=("${known[@]}")
fi

export LOCKSTEP_BIN=${LOCKSTEP_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/lockstep}
if [ ! -x "$LOCKSTEP_BIN" ]; then
  echo "no broker at $LOCKSTEP_BIN: build it (cargo build -p lockstep-cli) or name it in LOCKSTEP_BIN" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LOCKSTEP_INTEROP_HOME=$work/home LOCKSTEP_INTEROP_RESULTS=$work/results
mkdir -p "$LOCKSTEP_INTEROP_RESULTS" "$cache"

stage() { # NAME COMMAND...: says how long it took
  local name=$1 start=$SECONDS status=0
  shift
  "$@" || status=$?
  echo "== interop $name: $((SECONDS - start)) s$([ $status -eq 0 ] || echo ", status $status")"
  return $status
}

again() { # COMMAND...: downloads fail now and then
  local n
  for n in 1 2 3; do
    "$@" && return 0
    echo "try $n of 3 failed: $*" >&2
    sleep $((n * 5))
  done
  return 1
}

key_of() { cat "$@" | sha256sum | cut -c1-16; }

for suite in "${suites[@]}"; do . "$here/$suite/suite.sh"; done

stage "configuration and certificates" python3 "$here/lib/make_config.py" "$LOCKSTEP_INTEROP_HOME"
failed=()
for suite in "${suites[@]}"; do
  stage "install $suite" "install_$suite"
  stage "$suite" "run_$suite" || failed+=("$suite")
done

if [ "$all" = yes ]; then
  document=(python3 "$here/compat.py" "$LOCKSTEP_INTEROP_RESULTS")
  if [ "$mode" = check ]; then document+=(--check); fi
  "${document[@]}" || failed+=("docs/compatibility.md")
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "interop failed: ${failed[*]}" >&2
  exit 1
fi
