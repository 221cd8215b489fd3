# Two commands on a fresh machine: `make demo` and `make test`. Each does all the set-up it needs.
PYTHON ?= python3
BIN := .venv/bin
STORE ?= results
PORT ?= 8501
export WANDB_MODE := disabled
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup demo test check serve browser bench profile check-gpu clean

setup: .venv/installed

.venv/installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python must be 3.11 or newer; set PYTHON=/path/to/python3.11."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The bundled model, two quick analyses, and the dashboard opened while a job draws how much of the model can go, point by point.
demo: setup
	$(BIN)/python -m analysis run weight_sparsity --model smollm2 --store $(STORE)
	$(BIN)/python -m analysis run neuron_activity --model smollm2 --n-tokens 2048 --window 64 --store $(STORE)
	$(BIN)/python -m analysis run essential_sparsity --model smollm2 --n-tokens 8192 --window 64 --resolution 0.05 --store $(STORE) --detach
	$(BIN)/python -m analysis serve --store $(STORE) --port $(PORT) --open

serve: setup
	$(BIN)/python -m analysis serve --store $(STORE) --port $(PORT) --open

# Lint, types, then every test. Browser tests need chromium and poppler-utils; without them they skip and say how to get them.
test: check
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore=tests/browser $(ARGS)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile tests/browser $(ARGS)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

# What the browser tests need, on Debian and Ubuntu.
browser:
	@command -v chromium >/dev/null && command -v pdffonts >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium poppler-utils >/dev/null; }

# Every benchmark beside its peers, into docs/benchmarks.md. QUICK=1: within 40 minutes on two cores. Interrupted, the same command goes on.
bench: .venv/installed-dev
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

# Where the time of a benchmark goes: make profile WHAT=capture
profile: .venv/installed-dev
	$(BIN)/python -m benchmarks.profiling $(WHAT) $(ARGS)

# Statistics on a GPU held against the processor's, and their times. Without a GPU it says so and is content.
check-gpu: setup
	$(BIN)/python -m benchmarks.check_gpu $(ARGS)

clean:
	rm -rf .venv .bench results
