# The JavaScript SDK. Sourced by ../run.sh.

# A directory is complete when its marker is there; an interrupted install is begun anew.
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

run_js() (
  cd "$here/js"
  NODE_EXTRA_CA_CERTS=$LOCKSTEP_INTEROP_HOME/certs/ca.pem node --test --test-concurrency=3 --test-reporter=spec
)
