# ChatCluster. `make help` lists what there is; `make up` is the main job.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION   ?= 0.1.0
IMAGE_TAG ?= dev
GO        ?= go
BIN       := $(CURDIR)/bin
LDFLAGS   := -s -w -X main.version=$(VERSION)
TOOL      := $(GO) tool -modfile=$(CURDIR)/hack/tools/go.mod
# With go run, since go tool knows none of GOFLAGS and compiles all of client-go its own way.
HELM      := $(GO) run -modfile=$(CURDIR)/hack/kubernetes/go.mod helm.sh/helm/v4/cmd/helm
LOCAL     := $(GO) run -C hack ./localcluster

# One set of flags for everything that is compiled, here and by hack/internal/build, so that
# all of it shares the build cache.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath -gcflags=all=-dwarf=false)
export CGO_ENABLED := 0

# install, deploy and undeploy talk to the cluster that KUBECONFIG names; up, e2e and
# images to the local one, always.
KUBECTL   ?= $(or $(shell command -v kubectl),$(shell $(LOCAL) assets)/kubectl)

##@ Start here

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "; printf "Usage: make <target>\n"} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: ## A real Kubernetes on this machine, the operator, and the sample chat, ready to use
	@hack/up.sh

.PHONY: down
down: ## Remove the local cluster and all it left
	@$(LOCAL) down

.PHONY: run
run: ## A chat server on this machine with nothing installed: embedded Redis, demo users
	$(GO) run ./cmd/chatserver --dev

.PHONY: test
test: packages assets ## All tests that need no cluster, with the race detector
	CGO_ENABLED=1 KUBEBUILDER_ASSETS="$$($(LOCAL) assets)" $(GO) test -race -timeout 20m ./api/... ./charts/... ./chatserver/... ./cmd/... ./controllers/...
	cd hack && CGO_ENABLED=1 $(GO) test -race ./...
	$(HELM) lint --quiet charts/chatcluster-operator
	$(HELM) template chatcluster-operator charts/chatcluster-operator >/dev/null

.PHONY: e2e
e2e: ## The end-to-end tests on the local cluster, which it starts if need be
	@hack/e2e.sh

##@ Build

.PHONY: build
build: ## Static binaries of the operator and the chat server in bin/
	@mkdir -p $(BIN)
	$(GO) build -ldflags "$(LDFLAGS)" -o $(BIN)/ ./cmd/...

.PHONY: images
images: build ## Images of both in the local cluster, without a registry
	@$(LOCAL) load chatcluster/operator:$(IMAGE_TAG)=$(BIN)/operator chatcluster/chatserver:$(IMAGE_TAG)=$(BIN)/chatserver

.PHONY: docker-build
docker-build: ## Images of both with a container engine
	docker build --target operator --build-arg VERSION=$(VERSION) -t chatcluster/operator:$(VERSION) .
	docker build --target chatserver --build-arg VERSION=$(VERSION) -t chatcluster/chatserver:$(VERSION) .

##@ Check

.PHONY: fmt
fmt: ## Format all Go code
	gofmt -w $$(git ls-files '*.go')

.PHONY: verify-fmt
verify-fmt: ## Fail if a Go file is not formatted
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi

.PHONY: lint
lint: ## golangci-lint and go vet on every module
	$(TOOL) golangci-lint run ./...
	cd hack && $(GO) vet ./...

.PHONY: bench
bench: packages ## What the server has to reach, as ratios of one run (BENCHFLAGS=-v, -only fanout), then the hot paths
	$(GO) run ./test/bench $(BENCHFLAGS)
	$(GO) test -run '^$$' -bench . -benchmem ./chatserver/...

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (30s) each
	@hack/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: faults
faults: packages ## Every fault that the guarantee names, held for as long as it may last: lost, doubled, out of order
	CGO_ENABLED=1 $(GO) test -race -timeout 90m -v -run '^TestFaults$$' ./chatserver -long

.PHONY: soak
soak: packages ## People talk, come and go for SOAK (20m): memory, goroutines and descriptors stay flat
	$(GO) test -timeout 0 -v -run '^TestSoak$$' ./chatserver -soak $(or $(SOAK),20m)

.PHONY: vuln
vuln: ## Known vulnerabilities in what we depend on (needs the vulnerability database's site)
	$(TOOL) govulncheck ./...

##@ Generate

.PHONY: generate
generate: ## Deep copies, apply configurations
	$(GO) generate ./...

.PHONY: manifests
manifests: ## CRD, RBAC and the chart's copies of them, from the markers in the code
	@hack/manifests.sh

.PHONY: verify-generated
verify-generated: generate manifests ## Fail if a generated file is not what the code says
	@changed=$$(git status --porcelain -- api config charts); \
	if [ -n "$$changed" ]; then echo "generated files are stale, run make generate manifests and commit:"; echo "$$changed"; exit 1; fi

##@ Any cluster (KUBECONFIG)

.PHONY: install
install: ## Install the CRD
	$(KUBECTL) apply --server-side -k config/crd

.PHONY: uninstall
uninstall: ## Remove the CRD, and with it every ChatCluster
	$(KUBECTL) delete --ignore-not-found -k config/crd

.PHONY: deploy
deploy: ## Install the CRD and the operator with kustomize
	$(KUBECTL) apply --server-side -k config/default

.PHONY: undeploy
undeploy: ## Remove the operator; the CRD and the ChatClusters stay
	$(KUBECTL) delete --ignore-not-found -k config/manager
	$(KUBECTL) delete --ignore-not-found -k config/rbac

##@ What the others use

.PHONY: packages
packages: ## What the tests need from the system
	@hack/packages.sh redis-server

.PHONY: assets
assets: ## etcd, kube-apiserver and kubectl for the tests of the operator
	@$(LOCAL) assets >/dev/null
