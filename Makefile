# make demo | test | lint. Each sets up .venv on first use. VENV and PYTHON may be set: make test PYTHON=python3.12
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test slow lint format gl clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[sim,test]"
	$(BIN)/python -m pip install -q --no-deps -r constraints-peers.txt
	touch $@

# MuJoCo renders without a screen through EGL; this installs it where it may and says what to install where it may not.
gl:
	@if ! ldconfig -p 2>/dev/null | grep -q 'libEGL\.so\.1'; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq libegl1 libgl1 libgl1-mesa-dri; \
	  else \
	    echo "no EGL library: install libegl1 libgl1 libgl1-mesa-dri (Debian, Ubuntu) or mesa-libEGL (Fedora)" >&2; exit 2; \
	  fi; \
	fi

demo: $(VENV)/.ready gl
	OUT=$(or $(OUT),demo) BIN=$(BIN) sh demo.sh

# One thread a process: two processes with two threads each on two cores wait for each other most of the time.
test: $(VENV)/.ready gl
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -m "not slow and not gpu and not isaac"

slow: $(VENV)/.ready gl
	$(BIN)/pytest -m slow

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
