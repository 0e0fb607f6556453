# Taskfleet: every command a contributor needs. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
SOURCES := core/src api/src worker/src cli/src operator/src
# Tests start hundreds of processes: where bytecode may not be kept, each compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
QUEUES ?= $(wildcard examples/*/taskqueue.yaml)

.PHONY: help bootstrap services up test unit check format docs dist bench faults faults-cluster upgrades-cluster cluster-tls cluster-network-policies bench-overload bench-soak bench-listing bench-scaling bench-cluster bench-keda generate sbom audit changelog clean
.PHONY: cluster-up images deploy demo cluster-down

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

bootstrap: ## make .venv with everything pinned
	@hack/bootstrap

services: bootstrap
	@hack/test-services

up: bootstrap ## start Taskfleet on http://127.0.0.1:8000 with the example queues
	@$(BIN)/taskfleet up --references $(foreach file,$(QUEUES),-f $(file))

test: check services ## everything that CI runs: checks, then all tests
	@hack/prepare-cluster
	@hack/run-tests

unit: bootstrap ## the inner loop: no server, seconds
	HYPOTHESIS_PROFILE=brief $(BIN)/pytest -q -n 2 -p no:schemathesis tests/unit

check: bootstrap docs ## formatter, linter, strict types, import contracts, generated files, documentation, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python hack/set_version.py --check
	$(BIN)/python hack/generate_wire.py --check
	$(BIN)/python hack/generate_crd.py --check
	$(BIN)/python hack/generate_sync_client.py --check
	$(BIN)/python hack/generate_console_types.py --check
	$(BIN)/python hack/generate_reference.py --check
	$(BIN)/python hack/generate_dashboards.py --check
	$(BIN)/python hack/generate_chart.py --check
	$(BIN)/python hack/render_k8s.py --check
	$(BIN)/python hack/generate_reliability.py --check
	@[[ ! -x console/node_modules/.bin/tsc ]] || (cd console && npm run --silent check && npm run --silent test >/dev/null)
	$(BIN)/codespell -q 3 -L convertors,notin --skip '*.sum,*/console/static*' README.md CONTRIBUTING.md docs console/src core api worker cli tests hack

docs: bootstrap ## build the documentation's site into .site/; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: bootstrap ## build wheels, sdists and the chart's package into dist/
	@hack/dist

format: bootstrap ## format and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: bootstrap ## write the generated files again
	$(BIN)/python hack/generate_wire.py
	$(BIN)/python hack/generate_crd.py
	$(BIN)/python hack/generate_sync_client.py
	$(BIN)/python hack/generate_console_types.py
	$(BIN)/python hack/generate_reference.py
	$(BIN)/python hack/generate_dashboards.py
	$(BIN)/python hack/generate_chart.py
	$(BIN)/python hack/render_k8s.py
	$(BIN)/python hack/generate_reliability.py

bench: services ## measure submissions, batches, workers and latency beside their peers
	$(BIN)/python -m benchmarks

bench-listing: services ## pages of a million tasks in PostgreSQL, by filter
	$(BIN)/python -m benchmarks.listing --write

bench-scaling: bootstrap ## simulate the scaling rule beside KEDA's and others and write the tables of docs/scaling.md
	$(BIN)/python -m benchmarks.scaling --write

faults: services ## every fault on this machine, accounted task by task; writes docs/reliability.md (FAULTS="--only TEXT --seed N")
	$(BIN)/python -m tests.faults $(FAULTS)
	$(BIN)/python hack/generate_reliability.py

faults-cluster: bootstrap ## the same on the one-node Kubernetes: pods killed, deleted and cut off, upgrades and rollbacks (FAULTS="--only TEXT --seed N")
	$(BIN)/python -m tests.faults.on_cluster $(FAULTS)
	$(BIN)/python hack/generate_reliability.py

upgrades-cluster: ## of these, only upgrades from the version before and rollbacks to it
	@$(MAKE) --no-print-directory faults-cluster FAULTS="--only upgraded --only 'rolled back'"

cluster-tls: bootstrap ## TLS on the one-node Kubernetes: given certificates, cert-manager (built from its Go module), renewals
	CLUSTER_TLS=1 $(BIN)/pytest -q -n 0 -p no:schemathesis tests/cluster/test_tls.py

cluster-network-policies: bootstrap ## the chart's NetworkPolicies on the one-node Kubernetes, enforced by Cilium (built from its Go module)
	CLUSTER_NETWORK_POLICIES=1 $(BIN)/pytest -q -n 0 -p no:schemathesis tests/cluster/test_network_policies.py

bench-overload: services ## three times what the API can take, for MINUTES (5): refusals, bounded latency, recovery; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks.overload --minutes $(or $(MINUTES),5) --write

bench-soak: services ## an hour (MINUTES) at 70 % of the capacity with a fault every FAULT_MINUTES (5): what grows; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),60) --fault-minutes $(or $(FAULT_MINUTES),5) --write

cluster-up: ## start a Kubernetes cluster on this machine (kind or k3d where Docker is, else one node of its real parts)
	@hack/local-cluster up

images: ## build the images of API, operator and examples and hand them to the cluster
	@hack/images

deploy: ## install or upgrade Taskfleet in the cluster by Helm
	@hack/deploy

demo: bootstrap ## 500 tasks for a queue without pods: workers come, do them and go
	@eval "$$(hack/local-cluster env)" && $(BIN)/python hack/demo

cluster-down: ## stop the cluster
	@hack/local-cluster down

bench-thousand: bootstrap ## 1,000 TaskQueues on one operator, with a real API server and RabbitMQ
	$(BIN)/python -m benchmarks.cluster.thousand --write

bench-cluster: bootstrap ## measure bursts and 300 idle queues on the cluster
	$(BIN)/python -m benchmarks.cluster

bench-keda: bootstrap ## KEDA, built from its Go module, beside Taskfleet on the cluster: bursts, waves, scale-in, idle queues
	$(BIN)/python -m benchmarks.keda

pictures: bootstrap ## take the docs' pictures of the console
	PICTURES=write $(BIN)/pytest -q -n 0 tests/console/test_pictures.py

sbom: bootstrap ## write a CycloneDX bill of materials for each image into .sbom/
	@$(BIN)/python hack/sbom.py

audit: bootstrap ## ask the advisory database about every pinned package (needs the network)
	@hack/audit

changelog: bootstrap ## show the next release's changelog
	$(BIN)/towncrier build --draft --version next

clean: ## remove what the commands above made here (not the caches)
	rm -rf console/node_modules api/src/taskfleet_api/console/static .venv .taskfleet .pytest_cache .mypy_cache .ruff_cache
