# The only commands to learn. `make up PORT=8001 HOST=0.0.0.0` sets what the environment may set as well.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A release of uv that writes the lock files as they are; needed by nobody but who changes a dependency.
UV_VERSION := 0.13.9
# Needed by nobody but who asks what the engine's tests would miss.
MUTMUT_VERSION := 3.8.1

OPOSSUM := tests/benchmarks/opossum
# Two cores are busy with three: each waits now and then. 0: one after the other, in this process, for a debugger.
TEST_JOBS ?= 3

# What a production deployment would set, for the checks alone.
PRODUCTION := env -i PATH="$$PATH" DJANGO_DEBUG=false DJANGO_SECRET_KEY=uvwxyz0123456789-for-make-check-uvwxyz0123456789-only \
	DJANGO_ALLOWED_HOSTS=gateway.example.org DATABASE_URL=sqlite:////tmp/never-opened REDIS_URL=redis://redis.invalid/0 \
	MIFOS_BASE_URL=https://mifos.invalid/fineract-provider MIFOS_MAKER_USERNAME=maker MIFOS_MAKER_PASSWORD=check \
	MIFOS_CHECKER_USERNAME=checker MIFOS_CHECKER_PASSWORD=check

.DEFAULT_GOAL := help
.PHONY: help up setup test prove check bench charts chaos conformance coverage mutants screenshots lock

help:
	@echo "make up      serve in development mode on HOST:PORT (127.0.0.1:8000), with all that is not configured"
	@echo "make setup   install only"
	@echo "make test    run the tests"
	@echo "make prove   drive the engine beside a plain reference, and the outbox, through random schedules, some minutes"
	@echo "make check   lint, types, architecture, deployment, migrations, API schema, alerts"
	@echo "make bench   measure the price of a guarded call"
	@echo "make charts  write README's price section and docs/charts/ anew; ARGS=FILE: from that run of make bench"
	@echo "make chaos   kill, pause and empty what there is under load, and judge (SEED=7 MINUTES=4)"
	@echo "make conformance   run published traces on ours and on other circuit breakers"
	@echo "make coverage      run the tests and print the branches that they pass over"
	@echo "make mutants       break the engine bit by bit: what would its tests miss?"
	@echo "make screenshots   take docs/screenshots/ anew with the system's Chromium, from a gateway under load"
	@echo "make lock    compile requirements/ anew from pyproject.toml"

setup: $(VENV)/runtime.stamp $(VENV)/checkout.stamp

# The program replaces the shell, so that its parent is make: it ends when make does, however that is.
up: $(VENV)/runtime.stamp $(VENV)/checkout.stamp
	@exec $(BIN)/python -m config.devserver --parent $$PPID

test: $(VENV)/dev.stamp $(VENV)/checkout.stamp
	@exec $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

prove: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.engine.model $(ARGS)
	@exec $(BIN)/python -m tests.mifos_gateway.outbox $(ARGS)

bench: $(VENV)/dev.stamp $(OPOSSUM)/node_modules/.package-lock.json
	@exec $(BIN)/python -m tests.benchmarks $(ARGS)

charts: $(VENV)/dev.stamp
	@exec $(BIN)/python -m tests.benchmarks.readme $(ARGS)

chaos: $(VENV)/dev.stamp $(VENV)/checkout.stamp
	@exec $(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

screenshots: $(VENV)/dev.stamp $(VENV)/checkout.stamp
	@exec $(BIN)/python -m tests.acceptance.screenshots $(ARGS)

conformance: $(VENV)/dev.stamp
	@exec $(BIN)/python -m tests.conformance $(ARGS)

coverage: $(VENV)/dev.stamp $(VENV)/checkout.stamp
	@rm -rf var/coverage && mkdir -p var/coverage
	@$(BIN)/coverage run -m pytest $(ARGS); code=$$?; \
		$(BIN)/coverage combine --quiet && $(BIN)/coverage report && exit $$code

mutants: $(VENV)/mutants.stamp $(VENV)/checkout.stamp
	@mkdir -p var
	@exec $(BIN)/python tests/mutation $(ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(PRODUCTION) $(BIN)/python manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null
	$(BIN)/python -m tests.monitoring

lock: $(VENV)/lock.stamp
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --extra server --extra embedded pyproject.toml -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --extra otel -c requirements/runtime.txt pyproject.toml -o requirements/otel.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --extra server --extra embedded --extra otel --group dev -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt

# A contestant of the benchmark that lives in Node. Without npm its rows say that it is missing.
$(OPOSSUM)/node_modules/.package-lock.json: $(OPOSSUM)/package-lock.json
	@if command -v npm >/dev/null; then cd $(OPOSSUM) && npm ci --silent --no-audit --no-fund || echo "npm cannot install opossum"; fi

# A stamp is newer than what it installed, so that a second `make setup` does nothing.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, and %s is %s: make PYTHON=python3.11 ..." % (sys.executable, sys.version.split()[0]))'
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements/runtime.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@ $(VENV)/runtime.stamp

$(VENV)/mutants.stamp: $(VENV)/dev.stamp Makefile
	$(BIN)/python -m pip install --quiet --disable-pip-version-check mutmut==$(MUTMUT_VERSION)
	@touch $@

# So that a script anywhere finds `config`, `breaker` and `mifos_gateway`; relative, so that a checkout can be moved.
$(VENV)/checkout.stamp: | $(BIN)/python
	@$(BIN)/python -c 'import os, sysconfig as c; p = c.get_path("purelib"); \
		open(os.path.join(p, "mifos_gateway_checkout.pth"), "w").write(os.path.relpath(".", p) + "\n")'
	@touch $@

$(VENV)/lock.stamp: Makefile | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
