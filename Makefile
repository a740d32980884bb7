# The two commands of the README: `make demo` and `make test`. Each installs what is missing first.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint lock proto clean

demo: $(INSTALLED)
	@echo "Training a DDNN of six cameras, an aggregator and a cloud on rendered scenes, about three minutes ..."
	@$(BIN)/ddnn train --data scenes --recipe robust --out runs/demo --overwrite
	@echo "The run is in runs/demo; read it again with: $(BIN)/ddnn evaluate runs/demo"

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): requirements.lock setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "ddnn_tf needs Python 3.10, 3.11 or 3.12: set PYTHON=/path/to/it" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

# Renews the lock file; needs uv. The file names no registry, so any mirror serves.
lock:
	uv pip compile --universal --python-version 3.10 --extra c --extra evaluation --extra lce --extra micro \
		--extra notebooks --extra optimization --extra pictures --extra placement --extra runtime --extra search --extra tensorboard --extra tflite --extra dev \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file requirements.lock setup.cfg

# Generates the messages of the runtime.
proto: $(INSTALLED)
	$(BIN)/python -m grpc_tools.protoc -I ddnn_tf/runtime --python_out=ddnn_tf/runtime \
		--pyi_out=ddnn_tf/runtime ddnn_v1.proto

clean:
	rm -rf $(VENV) build dist *.egg-info runs/demo
