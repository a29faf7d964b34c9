PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLD_SDK := .venv-sdk097
BUILDER := .venv-build
COMPILED := .venv-compiled
SOURCES = $(shell find src -name '*.py' -o -name '*.[ch]') hatch_build.py pyproject.toml
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check
# What runs in both forms: every module that is compiled, and whole processes (docs/decisions/0008-compiled.md).
BOTH_FORMS := tests/unit/domain tests/unit/wire tests/unit/gateway tests/unit/ledger tests/unit/test_compiled.py \
  $(foreach name,requests budgets retries crashes upstream_tls,tests/acceptance/test_$(name).py)

# Whose instructions are counted: of this form's Python.
GATES_PYTHON ?= $(BIN)/python
# Tests wait for something half of their time, so two cores serve four workers.
TEST_WORKERS ?= 4
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

MUSTANG := .einvoices/Mustang-CLI-2.26.0.jar

# For a server of the tests' own, in a temporary folder (tests/postgresql.py). Without root it takes sudo, and asks nothing.
INSTALL_POSTGRESQL = [ -n "$$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || command -v initdb >/dev/null || { \
  echo 'Installing PostgreSQL (once)...'; sudo=; [ "$$(id -u)" = 0 ] || sudo='sudo -n'; \
  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null \
  || echo 'PostgreSQL could not be installed: tests on it are skipped'; }

# In front of the gateways of a cluster (tests/cluster).
INSTALL_HAPROXY = [ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null || { \
  echo 'Installing HAProxy (once)...'; sudo=; [ "$$(id -u)" = 0 ] || sudo='sudo -n'; \
  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends haproxy >/dev/null \
  || echo 'HAProxy could not be installed: tests with it are skipped'; }

# Of the hundreds of processes that tests start, each would compile all modules of ours again.
unexport PYTHONDONTWRITEBYTECODE

STORE_TESTS := $(addprefix tests/unit/,storage ledger control billing web cli)

.PHONY: help run test test-postgresql cluster test-clients test-compiled compiled wheels check bench gates fairness storm native fuzz-native einvoices lock clean

# The byte work (docs/decisions/0009-native-bytes.md): CPython's limited API, so one library for 3.11 and later.
NATIVE := $(addprefix src/tenantry/wire/,_bytes.abi3.so _plain.abi3.so)
SANITIZED := .native/_bytes.abi3.so .native/_plain.abi3.so
C_FLAGS := -std=c11 -fPIC -shared -Wall -Wextra -Wpedantic -Wconversion -Wshadow $(if $(filter Darwin,$(shell uname)),-undefined dynamic_lookup)
COMPILE_C = $(CC) $(C_FLAGS) -isystem $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 17

run: $(VENV)/.base ## Set up what is missing and run the gateway with a demo tenant
	@$(BIN)/tenantry init
	@exec $(BIN)/tenantry serve --demo

test: $(VENV)/.dev $(OLD_SDK)/.done ## Set up and run all tests
	@$(INSTALL_POSTGRESQL)
	@$(INSTALL_HAPROXY)
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium) || echo 'no chromium: its tests are skipped'
	$(BIN)/python -m tests -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

# Where a store is made for each test, `make test` has it on both; here it is PostgreSQL's for all, shared ones included.
test-postgresql: $(VENV)/.dev ## Run the tests of whatever uses a store on PostgreSQL alone
	@$(INSTALL_POSTGRESQL)
	TENANTRY_TEST_STORES=postgresql $(BIN)/python -m tests -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(STORE_TESTS)

cluster: $(VENV)/.dev ## Kill, freeze, cut off three gateways (half an hour)
	@$(INSTALL_POSTGRESQL)
	@$(INSTALL_HAPROXY)
	$(BIN)/python -m tests.cluster $(CLUSTER)

# Of the registries' current versions: not pinned, and not in the locks. CLIENTS=--fresh installs again what is of today,
# CLIENTS=--accept writes the page even where a cell got worse.
test-clients: $(VENV)/.dev $(OLD_SDK)/.done ## Current clients against a gateway; writes docs/conformance.md
	$(BIN)/python -m tests.clients $(CLIENTS)
	TENANTRY_CLIENTS=$(CURDIR)/.clients $(BIN)/python -m pytest -q tests/acceptance/test_guide.py

compiled: $(COMPILED)/.done ## Make the compiled form in .venv-compiled (some minutes)
	@$(COMPILED)/bin/tenantry --version

test-compiled: $(COMPILED)/.dev ## Run the tests of the compiled form
	@$(COMPILED)/bin/tenantry --version | grep '^compiled'
	TENANTRY_LIVES=10000 $(COMPILED)/bin/python -m tests -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(BOTH_FORMS)

wheels: $(BUILDER)/.done ## Build a compiled wheel for the CPython at hand into dist/
	TENANTRY_COMPILE=yes $(BUILDER)/bin/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation -w dist .

check: $(VENV)/.dev dist/licences.md dist/sbom.json ## Format, lint, types, imports, URLs in locks, licences, SBOM
	$(BIN)/ruff format --check src tests bench hatch_build.py
	$(BIN)/ruff check src tests bench hatch_build.py
	$(BIN)/pyright
	$(BIN)/lint-imports
	@! grep -nE '://' requirements/*.txt || (echo 'a requirement names a URL' && false)

bench: $(VENV)/.dev ## Measure the system beside nginx (7 minutes; BENCH=--quick: 2)
	@(command -v nginx && command -v wrk) >/dev/null || (apt-get update -qq && apt-get install -y -qq nginx-light wrk)
	$(BIN)/python -m bench $(BENCH)

gates: $(VENV)/.dev ## Count instructions of a request against bench/gates.toml
	@command -v valgrind >/dev/null || (apt-get update -qq && apt-get install -y -qq valgrind)
	$(BIN)/python -m bench.instructions --gates --python $(GATES_PYTHON)

fairness: $(VENV)/.dev ## Shares of an upstream beside long streams (seconds)
	$(BIN)/python -m bench.shares

storm: $(VENV)/.dev ## Promises under faults, STORM_HOURS=1000 STORM_SEED=1
	$(BIN)/tenantry simulate --storm --hours $(or $(STORM_HOURS),1000) --seed $(or $(STORM_SEED),1)

native: $(NATIVE) ## Compile the byte work in place (optional; needs a C compiler)

fuzz-native: $(SANITIZED) ## Compiled byte work against Python's (a minute; needs gcc)
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	  $(BIN)/python -m tests.fuzz_bytework --libraries .native --seconds $(or $(FUZZ_SECONDS),60)

# Mustang has veraPDF, the rules of EN 16931 and those of XRechnung in one archive; too large for a test.
einvoices: $(VENV)/.dev $(MUSTANG) ## E-invoices against PDF/A-3, EN 16931 and XRechnung (Java)
	rm -rf .einvoices/made && $(BIN)/python -m tests.einvoices .einvoices/made
	java -jar $(MUSTANG) --disable-file-logging --no-notices --action validateExpectValid -d .einvoices/made >.einvoices/report 2>&1 \
	  || (grep -A1 -E 'Testing file.* invalid|Error [0-9]+:' .einvoices/report; false)
	@tail -n 2 .einvoices/report

lock: $(VENV)/.dev ## Lock the dependencies again, with hashes and without URLs
	$(BIN)/pip install --quiet uv
	for name in base editable build dev einvoice parquet pdf postgres traces sdk-0.97; do $(COMPILE) requirements/$$name.in -o requirements/$$name.txt; done

clean: ## Remove what was installed and built; not .tenantry, clients
	rm -rf .clients $(VENV) $(OLD_SDK) $(BUILDER) $(COMPILED) dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .native .einvoices bench/.work $(NATIVE)

# Of what runs, made again when its lock changes. A licence that would bind who hands Tenantry on is refused, also in
# an extra.
EXTRAS := $(foreach name,einvoice parquet pdf traces,requirements/$(name).txt)
# psycopg alone is LGPL (docs/decisions/0020-postgresql.md), and stands in no list that is refused for it.
LESSER := requirements/postgres.txt
LICENCES_OF = $(BIN)/pip-licenses --packages $$(cat $(1) | grep -oE '^[a-z0-9-]+==' | tr -d '=') --partial-match
CHECK_LICENCES = $(call LICENCES_OF,$(1)) --fail-on 'GPL;SSPL;UNKNOWN'

dist/licences.md: requirements/base.txt $(EXTRAS) $(LESSER) $(VENV)/.dev
	@mkdir -p $(@D)
	@$(call CHECK_LICENCES,$(EXTRAS)) >/dev/null
	@$(call LICENCES_OF,$(LESSER)) --fail-on 'AGPL;Affero;GNU General;SSPL;UNKNOWN' >/dev/null
	$(call CHECK_LICENCES,$<) --format=markdown --with-urls --output-file=$@

dist/sbom.json: requirements/base.txt pyproject.toml $(VENV)/.dev
	@mkdir -p $(@D)
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o $@ $<

src/tenantry/wire/%.abi3.so: src/tenantry/wire/%.c src/tenantry/wire/_span.h | $(VENV)/bin/python
	$(COMPILE_C) -O2 -o $@ $<

$(MUSTANG):
	@command -v mvn >/dev/null || (apt-get update -qq && apt-get install -y -qq maven)
	mvn -q dependency:copy -Dartifact=org.mustangproject:Mustang-CLI:2.26.0 -DoutputDirectory=$(@D)

.native/%.abi3.so: src/tenantry/wire/%.c src/tenantry/wire/_span.h | $(VENV)/.dev
	@mkdir -p $(@D)
	$(COMPILE_C) -Werror -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -o $@ $<

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What runs, and beside it what an editable install is made with; a wheel needs the first alone.
$(VENV)/.base: requirements/base.txt requirements/editable.txt pyproject.toml | $(VENV)/bin/python
	@echo 'Installing (once)...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt -r requirements/editable.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(OLD_SDK)/.done: requirements/sdk-0.97.txt
	$(PYTHON) -m venv $(OLD_SDK)
	$(OLD_SDK)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sdk-0.97.txt
	@touch $@

$(BUILDER)/.done: requirements/build.txt
	$(PYTHON) -m venv $(BUILDER)
	$(BUILDER)/bin/$(PIP_INSTALL) --require-hashes -r requirements/build.txt
	@touch $@

$(COMPILED)/.done: $(SOURCES) requirements/base.txt $(BUILDER)/.done
	$(PYTHON) -m venv $(COMPILED)
	$(COMPILED)/bin/$(PIP_INSTALL) --require-hashes -r requirements/base.txt
	rm -rf $(COMPILED)/wheels
	@echo 'Compiling (some minutes without a word)...'
	$(BUILDER)/bin/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation -w $(COMPILED)/wheels .
	$(COMPILED)/bin/$(PIP_INSTALL) --force-reinstall --no-deps $(COMPILED)/wheels/*.whl
	@touch $@

$(COMPILED)/.dev: requirements/dev.txt $(COMPILED)/.done
	$(COMPILED)/bin/$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@
