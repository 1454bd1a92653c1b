# `make demo` learns MNIST without labels and prints where the pictures are; `make test` runs the
# tests. Both first make a virtual environment in .venv, with a CPU build of torch where no NVIDIA
# GPU is found. TORCH=2.11.0 chooses another torch, EXTRAS=dev,onnx more packages.
# `make types` checks that all public names have types and that users' programs are checked by them.
# `make docs` writes the site of the pages to build/site; a warning is an error.
# `make fire` calls every function with arguments of all kinds, damages every file that is read,
# kills commands and brings them into trouble (CALLS=20000, TIMES=2000, KILLS=200, TROUBLES=10), lives
# the lives of modules (LIVES=500) and soaks for an hour (MINUTES=60, TINY_CALLS=1000000). Then it
# makes mistakes in the code, which tests must notice, for an hour (MUTANTS=20 of each kind).
# `make sanitize` builds the kernels under sanitizers.
# `make gpu OUT=folder DATA=folder`, on a machine with a GPU, tests every kernel there and times it.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= 2.13.0
EXTRAS ?= dev
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q
CPU_TORCH := "torch==$(TORCH)+cpu"
CPU_INDEX := https://download.pytorch.org/whl/cpu
OUT ?= runs/demo
CALLS ?= 20000
TIMES ?= 2000
KILLS ?= 200
TROUBLES ?= 10
LIVES ?= 500
MINUTES ?= 60
TINY_CALLS ?= 1000000
MUTANTS ?= 20
DEMO_OPTIONS ?= --unsup-epochs 3 --baselines

# A CPU build, found beside the default index or on PyTorch's own, is a tenth of the size.
ifeq ($(shell nvidia-smi -L >/dev/null 2>&1 && echo yes),yes)
INSTALL_TORCH = $(PIP) "torch==$(TORCH)"
else
INSTALL_TORCH = $(PIP) $(CPU_TORCH) 2>/dev/null || \
	$(PIP) --extra-index-url $(CPU_INDEX) $(CPU_TORCH) 2>/dev/null || \
	$(PIP) "torch==$(TORCH)"
endif

.PHONY: help setup demo test test-slow fire sanitize gpu lint types docs clean

help:
	@sed -n 's/^# //p' Makefile

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py $(wildcard csrc/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "setuptools>=77" wheel ninja
	$(BIN)/python -c "import torch" 2>/dev/null || $(INSTALL_TORCH)
	$(PIP) --no-build-isolation -e ".[$(EXTRAS)]"
	touch $@

demo: setup
	$(if $(filter runs/%,$(OUT)),rm -rf $(OUT))
	$(BIN)/softhebb-fast train DemoMNIST --out $(OUT) $(DEMO_OPTIONS)

test: setup
	$(BIN)/python -m pytest -n 2

test-slow: setup
	$(BIN)/python -m pytest -n 2 -m slow

fire: setup
	$(BIN)/python -m benchmarks.fire.calls --times $(CALLS)
	$(BIN)/python -m benchmarks.fire.corruptions --times $(TIMES)
	$(BIN)/python -m benchmarks.fire.kills --times $(KILLS)
	$(BIN)/python -m benchmarks.fire.hardships --times $(TROUBLES)
	$(BIN)/python -m benchmarks.fire.lives --times $(LIVES)
	$(BIN)/python -m benchmarks.fire.largest
	$(BIN)/python -m benchmarks.fire.soak --minutes $(MINUTES) --calls $(TINY_CALLS)
	for kind in python native ptx; do \
		$(BIN)/python -m benchmarks.fire.mutants --kind $$kind --times $(MUTANTS) || exit; done

sanitize: setup
	$(BIN)/python -m benchmarks.fire.sanitizers

gpu:
	@$(PYTHON) -m benchmarks.gpu.day $(if $(filter runs/demo,$(OUT)),,--out $(OUT)) \
		$(if $(DATA),--data $(DATA))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git diff --check $$(git hash-object -t tree /dev/null) HEAD

types: setup
	$(BIN)/python tools/check_types.py

docs: setup
	$(PIP) "softhebb_fast[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server -d build/site"

clean:
	rm -rf build dist *.egg-info $(VENV)
