# timesale: every command that a person or CI gives.
#
# `make run` serves, `make test` tests; both first make what they need.

CARGO ?= cargo
STRATEGIES = plugins/v1-row-lock plugins/v2-redis-lock plugins/v3-kafka-async plugins/v4-group-commit
BENCH_STRATEGIES = $(STRATEGIES) plugins/bench/no-op=noop plugins/bench/take-if-enough=take
TEST_STRATEGIES = $(STRATEGIES) plugins/v4-group-commit=v9 plugins/faulty

export TIMESALE_STRATEGIES ?= strategies

# Of the whole workspace, as `make test-embedded` is, so that both share what they compile: cargo chooses the features of dependencies for all that it is asked for.
SERVICES_TEST = $(CARGO) test --locked --workspace --features timesale/services

# What `make test-services` and `make bench` start, and where `.ci/services` unpacks programs that the machine lacks.
TEST_SERVICES = target/services/test
BENCH_SERVICES = target/services/bench
SOFTWARE = $(CURDIR)/target/services/software/debian

.PHONY: run test test-embedded test-services storm bench up down plugins test-plugins bench-plugins plugin tools lint clean

## run: serve v1 to v4 on the embedded default
run: rust plugins
	@echo "building the host (about 10 minutes the first time, then seconds)"
	$(CARGO) build --release --locked -p timesale
	exec target/release/timesale

## test: every test there is
test: test-embedded test-services

## test-embedded: the tests that need no service
test-embedded: rust test-plugins tools
	@echo "building and running the tests (about 15 minutes the first time, then 2)"
	$(CARGO) test --locked --workspace
	$(CARGO) test --locked --workspace --features timesale/twin --test it -- twin::

# Tests that need real services are compiled with the feature `services` alone.
# Those of the module `embedded` are about what is only true without services.
# Those of the module `faults` harm services, so each starts a set of its own, and they run one at a time; `truth` kills one too, and prints what it asked of Prometheus; those of `storm` take as long as they are told to, and wait for `make storm`.
# Where a URL is missing, services are started here, beside those of `make up`, and stopped whatever happens.
## test-services: the tests on PostgreSQL, Redis and Kafka: those of DATABASE_URL, REDIS_URL and KAFKA_BROKERS, or some started here
test-services: rust test-plugins tools
	@echo "building and running the tests on real services (about 6 minutes once built)"
	@services() { SERVICES_DIR=$(TEST_SERVICES) .ci/services "$$@"; }; \
	trap 'services stop' EXIT; trap 'exit 130' INT TERM; \
	if [ -z "$${DATABASE_URL:-}" ] || [ -z "$${REDIS_URL:-}" ] || [ -z "$${KAFKA_BROKERS:-}" ]; then \
		services start || exit; \
		export $$(services env) || exit; \
	fi; \
	if ! command -v redis-server >/dev/null; then \
		export PATH="$$PATH:$(SOFTWARE)/usr/bin" LD_LIBRARY_PATH="$(SOFTWARE)/usr/lib/$$(uname -m)-linux-gnu"; \
	fi; \
	export TIMESALE_TEST_BACKENDS=real; failed=0; \
	$(SERVICES_TEST) --lib || failed=1; \
	$(SERVICES_TEST) --test it -- --skip embedded:: --skip faults:: --skip storm:: --skip truth:: --test-threads=4 || failed=1; \
	$(SERVICES_TEST) --test it -- --test-threads=1 faults:: || failed=1; \
	$(SERVICES_TEST) --test it -- --nocapture --test-threads=1 truth:: || failed=1; \
	exit $$failed

# The books are checked after every 25 faults or so; 10,000 take hours.
# Services are started for it alone, whatever DATABASE_URL and its like say, and stopped even where it is interrupted.
N ?= 200

## storm N=200 SEED=1: so many faults under load on two hosts and their services; the seed has them come again in the same order
storm: rust test-plugins
	@folder=$$(mktemp -d) && chmod o+x "$$folder" || exit; \
	trap 'for set in "$$folder"/.tmp*/; do test ! -e "$$set/lock" || SERVICES_DIR=$$set .ci/services kill; done; rm -rf "$$folder"' EXIT; \
	trap 'exit 130' INT TERM; \
	export TMPDIR="$$folder" STORM_FAULTS=$(N) $(if $(SEED),STORM_SEED=$(SEED)); \
	$(SERVICES_TEST) --test it -- --nocapture --test-threads=1 storm::

# Services are started for it alone, whatever DATABASE_URL and its like say; the raw data goes to host/benches/data.
## bench: print what is promised of the host's speed with ours beside it (about 8 minutes once built); ROWS="calls redis" chooses rows, TIMESALE_BENCH_SECONDS and TIMESALE_BENCH_ROUNDS make it longer
bench: rust bench-plugins
	@echo "building the benchmark (about 10 minutes the first time)"
	$(CARGO) build --release --locked -p timesale --features twin --bin timesale-targets
	@services() { SERVICES_DIR=$(BENCH_SERVICES) .ci/services "$$@"; }; \
	trap 'services stop' EXIT; trap 'exit 130' INT TERM; \
	services start || exit; \
	export $$(services env) || exit; \
	ulimit -n 20000 || exit; \
	target/release/timesale-targets $(ROWS)

## up: start PostgreSQL, Redis and Kafka on loopback, to try the real thing without Docker; prints the lines to export
up:
	@.ci/services start
	@.ci/services env | sed 's/^/export /'

## down: stop what `make up` started; its data is kept
down:
	@.ci/services stop

## plugins: build the strategies into $(TIMESALE_STRATEGIES)
plugins: rust
	$(CARGO) run --quiet --locked -p bundle -- --out $(TIMESALE_STRATEGIES) $(STRATEGIES)

## test-plugins: build the strategies that the tests load
test-plugins: rust bench-plugins
	$(CARGO) run --quiet --locked -p bundle -- --out target/strategies-test $(TEST_STRATEGIES)

## bench-plugins: build the strategies that are measured
bench-plugins: rust
	$(CARGO) run --quiet --locked -p bundle -- --out target/strategies-bench $(BENCH_STRATEGIES)

## plugin P=<dir>: build one strategy, inside this repository or not, into $(TIMESALE_STRATEGIES)
plugin: rust
	@test -n "$(P)" || { echo "say which: make plugin P=<folder of the crate>"; exit 2; }
	$(CARGO) run --quiet --locked -p bundle -- --out $(TIMESALE_STRATEGIES) $(P)

## tools: fetch Prometheus and Alertmanager for the tests
tools: target/tools/prometheus target/tools/alertmanager

target/tools/prometheus target/tools/alertmanager:
	@.ci/tools $(@F)

## lint: formatting, clippy, alert rules and their tests, and what cargo-deny says where it is installed
lint: rust
	@.ci/lint

.PHONY: rust
rust:
	@.ci/tools rust

clean:
	$(CARGO) clean
	rm -rf strategies

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' Makefile
