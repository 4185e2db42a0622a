#!/usr/bin/env bash
# Runs the official Service Bus SDKs, unmodified, against the real broker.
#
#   interop-tests/run.sh             run every suite, fail when docs/compatibility.md differs from the verdicts
#   interop-tests/run.sh --update    run every suite and rewrite docs/compatibility.md
#   interop-tests/run.sh python      only the named suites (python, js, amqp); the document is left alone
#
# LOCKSTEP_BIN         the broker; default $CARGO_TARGET_DIR/debug/lockstep
# LOCKSTEP_CACHE_DIR   where the client libraries are installed; default ~/.cache/lockstep
# LOCKSTEP_INTEROP_WORKERS   test processes of the Python suite; default 4
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${LOCKSTEP_CACHE_DIR:-$HOME/.cache/lockstep}/interop

mode=check
suites=()
for argument in "$@"; do
  case $argument in
    --update) mode=update ;;
    python | js | amqp) suites+=("$argument") ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done
all=$([ ${#suites[@]} -eq 0 ] && echo yes || echo no)
if [ "$all" = yes ]; then
  suites=(python js)
  if [ -e "$here/amqp/run.sh" ]; then suites+=(amqp); fi
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

# A directory is complete when its marker is there; an interrupted install is begun anew.
install_python() {
  local version
  version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  venv=$cache/python-$version-$(key_of "$here/python/requirements.txt")
  [ -e "$venv/complete" ] && return 0
  rm -rf "$venv"
  python3 -m venv "$venv"
  again "$venv/bin/pip" install --quiet --require-hashes --disable-pip-version-check -r "$here/python/requirements.txt"
  touch "$venv/complete"
}

install_js() {
  local modules
  modules=$cache/js-$(key_of "$here/js/package.json" "$here/js/package-lock.json")
  if [ ! -e "$modules/complete" ]; then
    rm -rf "$modules"
    mkdir -p "$modules"
    cp "$here/js/package.json" "$here/js/package-lock.json" "$modules"
    again npm ci --prefix "$modules" --no-audit --no-fund --ignore-scripts --loglevel=error
    touch "$modules/complete"
  fi
  # Node looks for packages beside the program.
  rm -rf "$here/js/node_modules"
  ln -s "$modules/node_modules" "$here/js/node_modules"
}

run_python() {
  cd "$here/python"
  PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m pytest -n "${LOCKSTEP_INTEROP_WORKERS:-4}" --dist worksteal -q
}

run_js() {
  cd "$here/js"
  NODE_EXTRA_CA_CERTS=$LOCKSTEP_INTEROP_HOME/certs/ca.pem node --test --test-concurrency=3 --test-reporter=spec
}

run_amqp() { "$here/amqp/run.sh"; }

stage "configuration and certificates" python3 "$here/lib/make_config.py" "$LOCKSTEP_INTEROP_HOME"
failed=()
for suite in "${suites[@]}"; do
  if [ "$suite" != amqp ]; then stage "install $suite" "install_$suite"; fi
  stage "$suite" "run_$suite" || failed+=("$suite")
done

if [ "$all" = yes ]; then
  document=(python3 "$here/compat.py" "$LOCKSTEP_INTEROP_RESULTS")
  for suite in "${suites[@]}"; do document+=(--suite "$suite"); done
  if [ "$mode" = check ]; then document+=(--check); fi
  "${document[@]}" || failed+=("docs/compatibility.md")
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "interop failed: ${failed[*]}" >&2
  exit 1
fi
