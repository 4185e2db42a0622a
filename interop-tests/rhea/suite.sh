# rhea, a JavaScript library of AMQP 1.0. Sourced by ../run.sh.

# A directory is complete when its marker is there; an interrupted install is begun anew.
install_rhea() {
  local modules
  modules=$cache/rhea-$(key_of "$here/rhea/package.json" "$here/rhea/package-lock.json")
  if [ ! -e "$modules/complete" ]; then
    rm -rf "$modules"
    mkdir -p "$modules"
    cp "$here/rhea/package.json" "$here/rhea/package-lock.json" "$modules"
    again npm ci --prefix "$modules" --no-audit --no-fund --ignore-scripts --loglevel=error
    touch "$modules/complete"
  fi
  # Node looks for packages beside the program.
  rm -rf "$here/rhea/node_modules"
  ln -s "$modules/node_modules" "$here/rhea/node_modules"
}

run_rhea() (
  cd "$here/rhea"
  node --test --test-reporter=spec
)
