# What a person needs: `make run` and `make test`. docs/testing.md says how long each takes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Sources .ci/env.sh (caches, target directory) and the place of RocksDB's archive.
ENV := . .ci/env.sh; lines=$$(.ci/rocksdb.sh --env); eval "$$lines";

.PHONY: help
help: ## Show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

.PHONY: run
run: build ## Build, then run the broker for development; ARGS="..." adds options of serve
	@. .ci/env.sh; exec "$$CARGO_TARGET_DIR/release/lockstep" serve --dev $(ARGS)

.PHONY: build
build: ## Build the optimised binary
	@.ci/setup.sh build
	@. .ci/env.sh; retry cargo fetch --locked --quiet
	@$(ENV) cargo build --release --locked --package lockstep-cli
	@. .ci/env.sh; echo "built $$CARGO_TARGET_DIR/release/lockstep"

.PHONY: test
test: ## Everything that CI runs; STAGES="fmt tidy test" runs some
	@.ci/run $(STAGES)

.PHONY: attacks
attacks: build ## Attack the optimised binary and measure a quiet client and memory (minutes); ARGS="..." names some
	@$(ENV) cargo build --release --locked --package lockstep-interop-amqp --bin attacks; \
	  LOCKSTEP_BIN="$$CARGO_TARGET_DIR/release/lockstep" "$$CARGO_TARGET_DIR/release/attacks" $(ARGS)

.PHONY: rocksdb
rocksdb: ## Compile RocksDB's C++ into the cache, once
	@.ci/rocksdb.sh

.PHONY: docs
docs: ## Write the generated documents anew
	@$(ENV) cargo xtask docs

.PHONY: certs
certs: ## Make a local authority and a server certificate in certs/
	@certs/make-certs.sh

.PHONY: fuzz
fuzz: ## Fuzz for HOURS=1, shared by all targets or by TARGETS="pair hot"
	@HOURS="$(or $(HOURS),1)" TARGETS="$(TARGETS)" fuzz/run.sh long

.PHONY: peers
peers: build ## Compare with RabbitMQ and ActiveMQ Artemis; ARGS="--rounds 5" are options of benches/peers/run.sh
	@. .ci/env.sh; benches/peers/run.sh --bin "$$CARGO_TARGET_DIR/release/lockstep" $(ARGS)

.PHONY: profile
profile: build ## Where the broker's time goes, and flame graphs; ARGS="--runs 5" are options of benches/profile.sh
	@. .ci/env.sh; benches/profile.sh --bin "$$CARGO_TARGET_DIR/release/lockstep" $(ARGS)
