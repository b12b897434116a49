# Two commands do everything from a fresh clone: `make demo` runs the main job, `make test` the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := -m pip install --quiet --disable-pip-version-check
# uv, where it is installed, unpacks torch's gigabytes in a fifth of pip's time.
UV := $(shell command -v uv)
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python $(PIP)) --editable
MINIMUM := .venv-minimum
# A process for each core, but no more than memory and the longest file of tests make worthwhile.
# Files in their order: else those with few tests come last, and some of these take a minute beside an idle process.
TESTS := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-minimum faults check format docs figures bench clean distclean

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/installed ## train two networks on the embedded digits and print their affine gap
	$(BIN)/capsbench run --suite affine --digits embedded --out runs

# Bytecode is kept, whatever the environment says: each process would compile the tests again, and so would children.
test: $(VENV)/installed-test ## the whole suite
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python $(TESTS)

test-minimum: $(MINIMUM)/installed ## the whole suite with the oldest versions that pyproject.toml allows
	$(MINIMUM)/bin/python $(TESTS) -W ignore::DeprecationWarning  # of old releases beside newer ones that they need

faults: $(VENV)/installed-test ## every fault campaign in full; ends in one table, kept with TABLE=results/faults/MACHINE.json
	$(BIN)/python -m pytest tests/faults \
		tests/generators/test_affnist.py tests/generators/test_family.py tests/generators/test_specs.py \
		tests/files/test_packed.py tests/files/test_packing.py \
		tests/models/routing/test_kernels.py tests/models/routing/test_fused.py tests/models/routing/test_blocked.py \
		tests/data/test_loading.py tests/training/test_trainer.py::test_kills_leave_no_trace \
		tests/training/test_together.py tests/bench/test_apart.py tests/bench/test_cluster.py \
		tests/bench/test_pretrained.py tests/test_randomness.py tests/test_statistics.py \
		tests/suites/test_affine_matched.py tests/suites/test_crowding_spacing.py tests/report/test_browser.py \
		tests/report/test_webpage.py --campaign \
		$(if $(TABLE),--campaign-table=$(abspath $(TABLE)))

check: $(VENV)/installed-dev ## lint, format, types, links, documents in step with the code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tools/documents.py --check

format: $(VENV)/installed-dev ## put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/installed-dev ## write the generated parts of the documents again
	$(BIN)/python tools/documents.py

figures: $(VENV)/installed-dev ## draw the charts of the documents again from the result files
	$(BIN)/capsbench report results --charts docs/images/results --markdown docs/results.md --html docs/board.html >/dev/null

bench: $(VENV)/installed-bench ## compare speeds; ends in a table of ratios, kept with JSON=results/benchmarks/MACHINE.json
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only --benchmark-quiet \
	  $(if $(JSON),--benchmark-json=$(JSON))

clean: ## remove what was built, and the demo's results
	rm -rf build dist runs *.egg-info .benchmarks .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)*' -prune -exec rm -rf {} +

distclean: clean ## remove the virtual environments, too
	rm -rf $(VENV) $(MINIMUM)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "capsbench needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# An installation is good until pyproject.toml changes; torch alone is several gigabytes.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(INSTALL) .
	@touch $@

# `dev` and `bench` contain `test`, and each contains what the demo needs.
$(VENV)/installed-%: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[$*]'
	@touch $(VENV)/installed $(VENV)/installed-test $@

$(MINIMUM)/installed: pyproject.toml tools/minimum.py
	$(PYTHON) -m venv --clear $(MINIMUM)
	$(PYTHON) tools/minimum.py >$(MINIMUM)/constraints.txt
	$(MINIMUM)/bin/python $(PIP) --constraint $(MINIMUM)/constraints.txt --editable '.[test]'
	@touch $@
