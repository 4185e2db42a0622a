# The Python SDK. Sourced by ../run.sh.

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

run_python() (
  cd "$here/python"
  PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m pytest -n "${LOCKSTEP_INTEROP_WORKERS:-6}" --dist worksteal -q
)
