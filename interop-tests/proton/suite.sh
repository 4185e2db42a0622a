# Qpid Proton for Python, a library of AMQP 1.0. Sourced by ../run.sh.

# A directory is complete when its marker is there; an interrupted install is begun anew.
# Proton is published as source: a C library that pip builds, with what builds it under hashes as well.
install_proton() {
  local version
  version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  proton_venv=$cache/proton-$version-$(key_of "$here/proton/build-requirements.txt" "$here/proton/requirements.txt")
  [ -e "$proton_venv/complete" ] && return 0
  rm -rf "$proton_venv"
  python3 -m venv "$proton_venv"
  local install=("$proton_venv/bin/pip" install --quiet --require-hashes --disable-pip-version-check)
  again "${install[@]}" -r "$here/proton/build-requirements.txt"
  again "${install[@]}" --no-build-isolation -r "$here/proton/requirements.txt"
  # Without the headers of OpenSSL it would build too, and speak no TLS.
  "$proton_venv/bin/python" -c 'import proton, sys; sys.exit(not proton.SSL.present())' ||
    { echo "Qpid Proton was built without TLS: libssl-dev and pkg-config are missing" >&2; return 1; }
  touch "$proton_venv/complete"
}

run_proton() (
  cd "$here/proton"
  PYTHONDONTWRITEBYTECODE=1 "$proton_venv/bin/python" -m pytest -q
)
