# Weft's targets. "make" alone lists them.
SHELL       := /bin/bash
GO          ?= go
TOOLS       := .ci/tools
MODULES     := pi hello crash graceful
PREBUILT    := park done
PLUGINS     := sweep
# What libraries of Kubernetes say about themselves, in user agents for one.
KUBE_LDFLAGS := -X k8s.io/component-base/version.gitVersion=v1.36.6+weft -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36
LDFLAGS     := -s -w
FUZZTIME    ?= 20s
BENCHTIME   ?= 200ms
REV         ?= HEAD
POWERCUTS   ?= 50
POWERCUT_SEED ?= 1
SOAK_SEEDS  ?= 10000
CHAOS_FAULTS ?= 200
CHAOS_SEED  ?= 0
CHAOS_OUTSIDE ?=

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

.PHONY: run
run: build ## build all and run the main job on the embedded default
	bin/weft up examples/

.PHONY: build
build: modules ## build bin/weft and the example modules
	$(GO) build -trimpath -ldflags='$(LDFLAGS) $(KUBE_LDFLAGS)' -o bin/weft ./cmd/weft

.PHONY: modules
modules: $(MODULES:%=examples/modules/%.wasm) $(PREBUILT:%=examples/modules/%.wasm) ## build the example modules

examples/modules/%.wasm: $(wildcard examples/src/*/*.go) go.mod
	@mkdir -p $(@D)
	GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -ldflags='$(LDFLAGS)' -o $@ ./examples/src/$*

.PHONY: plugins
plugins: ## build the example plugins, each a Go module of its own
	@set -e; for name in $(PLUGINS); do \
	  cd $(CURDIR)/examples/plugins/$$name; \
	  $(GO) build -mod=readonly -trimpath -ldflags='$(LDFLAGS)' -o bin/$$name .; \
	done

.PHONY: plugins-test
plugins-test: ## vet and test the example plugins
	@set -e; for name in $(PLUGINS); do \
	  cd $(CURDIR)/examples/plugins/$$name; \
	  $(GO) vet -mod=readonly ./...; \
	  $(GO) test -mod=readonly ./...; \
	done

.SECONDEXPANSION:
$(PREBUILT:%=examples/modules/%.wasm): examples/modules/%.wasm: examples/src/$$*/$$*.wasm
	@mkdir -p $(@D)
	cp $< $@

.PHONY: test
test: modules plugins-test ## every test
	$(GO) test -timeout 10m ./...

.PHONY: e2e
e2e: build ## the real binary, real NATS, plugin processes and kubectl
	$(GO) test -timeout 10m -count=1 ./cmd/...

.PHONY: wasi-testsuite
wasi-testsuite: ## the public WASI suite, in folder WEFT_WASI_TESTSUITE, on our engine and on plain wazero
	@test -n "$(WEFT_WASI_TESTSUITE)" || { echo "set WEFT_WASI_TESTSUITE to a folder with the branch prod/testsuite-base of https://github.com/WebAssembly/wasi-testsuite"; exit 1; }
	WEFT_WASI_TESTSUITE='$(abspath $(WEFT_WASI_TESTSUITE))' $(GO) test -count=1 -v -run '^TestSuite$$' ./wasm/host

.PHONY: fmt
fmt: ## format
	gofmt -w $$(git ls-files '*.go')

.PHONY: lint
lint: ## golangci-lint
	$(GO) tool -modfile=$(TOOLS)/go.mod golangci-lint run ./...

.PHONY: generate
generate: ## write generated code and documents anew
	$(GO) generate ./...

.PHONY: check
check: modules ## format, lint, generated code is clean, imports rule, tests with the race detector
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) mod tidy -diff
	$(MAKE) lint
	$(MAKE) generate
	@git diff --exit-code --stat || { echo "generated files were not current: commit them"; exit 1; }
	$(GO) test -race -timeout 20m ./...
	$(MAKE) test

.PHONY: bench-programs
bench-programs: ## build the guests that bench compares, in Go and C
	.ci/bench-programs

.PHONY: bench
bench: build bench-programs ## benchmarks, then measurements of the whole system: docs/benchmarks.md
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...
	$(GO) run ./cmd/internal/measure $(MEASURE)

.PHONY: bench-compare
bench-compare: ## the same for revision REV and this tree, side by side
	.ci/bench-compare $(REV)

.PHONY: powercut
powercut: build ## cut a core's power POWERCUTS times under load; needs root, and says so
	$(GO) run ./cmd/internal/powercut -cuts $(POWERCUTS) -seed $(POWERCUT_SEED)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s $$package; \
	  done; done

.PHONY: fuzz-meter
fuzz-meter: ## wasm/meter's fuzz targets for an hour together, or FUZZTIME each
	@set -e; for target in FuzzGenerated FuzzMutated FuzzRun FuzzCountedLoops; do \
	  $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(if $(filter file,$(origin FUZZTIME)),15m,$(FUZZTIME)) -fuzzminimizetime 2s ./wasm/meter; \
	done

.PHONY: validate-meter
validate-meter: ## ask wabt's validator about rewritten modules
	@command -v wasm-validate >/dev/null || { echo "wasm-validate is not installed. It is a part of wabt:" \
	  "the package wabt of Debian, Ubuntu, Homebrew and Nix, or https://github.com/WebAssembly/wabt/releases"; exit 1; }
	$(GO) test -count 1 -v -run '^TestValidator$$' ./wasm/meter

.PHONY: soak
soak: ## simulated clusters under faults, one for each of SOAK_SEEDS seeds; SOAK_SEED repeats one
	SOAK_SEEDS=$(SOAK_SEEDS) $(GO) test -count=1 -timeout 0 -run 'TestSoak|TestFailedSeeds' ./cmd/internal/sim

.PHONY: chaos
chaos: build ## a cluster of processes of which one is killed, stopped or cut off CHAOS_FAULTS times; CHAOS_SEED repeats; CHAOS_OUTSIDE=1: two cores on three NATS servers
	$(GO) build -o bin/chaos ./cmd/internal/chaos
	bin/chaos -faults $(CHAOS_FAULTS) -seed $(CHAOS_SEED) $(if $(CHAOS_OUTSIDE),-outside)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin examples/modules
