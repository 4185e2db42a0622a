# go-amqp, a library of AMQP 1.0 for Go. Sourced by ../run.sh.

# Modules (by the hashes of go.sum) and compiled packages go into the cache, whatever the user's Go has elsewhere.
go_here() {
  (cd "$here/go" && GOMODCACHE=$cache/go-modules GOCACHE=$cache/go-build GOTOOLCHAIN=local GOFLAGS=-mod=readonly go "$@")
}

install_go() {
  again go_here mod download
  go_here mod verify >/dev/null
}

run_go() {
  go_here vet .
  go_here test -count=1 -parallel 8 .
}
