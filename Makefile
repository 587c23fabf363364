# install demo check fix test soak bench docs litert clean: everything a person or CI types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo check fix test soak bench docs system litert clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mlstack needs Python 3.11 or newer; type: make install PYTHON=python3.12"; exit 1; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV) || \
	  { echo "python cannot make a virtual environment; on Debian type: apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (about 2.8 GB with torch and ray; minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $(STAMP)
	@echo "installed: $(BIN)/mlstack"

demo: install
	@$(BIN)/python demo/story.py

check: install
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo | tail -n 8
	@$(BIN)/python -m pytest -q -m "not slow and not e2e and not gpu"

fix: install
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

# What the tests need and pip cannot bring.
system:
	@.ci/system

# LiteRT's converter, which cannot be installed beside the rest.
litert: install
	@.ci/litert $(BIN)/python

test: install system litert
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo | tail -n 8
	@$(BIN)/python -m pytest -n 2 -m "not gpu"

# What `make test` does a few times, often: every command is killed 50 times (an hour).
soak: install system
	@MLSTACK_KILLS=50 $(BIN)/python -m pytest -n 2 --timeout 3600 tests/faults/test_faults_version.py \
	  tests/faults/test_faults_layouts.py tests/faults/test_faults_ssh.py \
	  tests/faults/test_faults_train_kill.py

# The figures of docs/benchmarks.md; close other programs first.
bench: install litert
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: install
	@$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .litert
