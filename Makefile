# Two commands for a fresh machine: `make demo` and `make test`. Each sets up what it needs (docs/contributing.md).

# the first Python that the pins have wheels for
FITS := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON := $(shell for name in python3 python3.11 python3.12; do \
	if $$name -c '$(FITS)' 2>/dev/null; then echo $$name; break; fi; done)
VENV := .venv
VENV4 := .venv-gradio4
VENVNEO := .venv-neo
HASH := $(shell cat requirements/*.txt | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(HASH)
READY4 := $(VENV4)/.ready-$(HASH)
READYNEO := $(VENVNEO)/.ready-$(HASH)
PIP_FLAGS := --disable-pip-version-check --no-input -q

# what only the second generation of gradio can break
GRADIO4_TESTS := tests/test_settings.py tests/webui tests/miniwebui tests/browser
# and what only Forge Neo's packages can (numpy 2, Pillow 12, opencv 5, pydantic 2.10)
NEO_TESTS := tests/test_settings.py tests/test_install.py tests/test_install_failures.py tests/faces tests/webui

export ONCE FACE PROMPT
export ORT_DISABLE_TELEMETRY := 1
export GRADIO_ANALYTICS_ENABLED := False
export NO_PROXY := 127.0.0.1,localhost

.PHONY: help demo test test-slow bench lint format clean .venv .venv-gradio4 .venv-neo

help:
	@echo "make demo [ONCE=1] [FACE=drawn.png] [PROMPT='...']   pictures into demo/out, then the page on 127.0.0.1"
	@echo "make test                                            style, types, all tests (packages of A1111, Forge and Neo)"
	@echo "make test-slow                                       the tests that take minutes (fuzzing, memory, grids)"
	@echo "make bench [PAIRS=600] [JOBS=1]                      the tables and plots of bench/results, for hours"
	@echo "make lint | make format | make clean"

.venv: $(READY)
.venv-gradio4: $(READY4)
.venv-neo: $(READYNEO)

$(READY): | requirements/torch.txt requirements/main.txt requirements/faces.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; say which: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) -r requirements/torch.txt
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) -r requirements/main.txt
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) --no-deps -r requirements/faces.txt
	@touch $@

# The other environments hold what differs only (requirements/gradio4.txt, neo.txt); a .pth file lends them the rest.
define borrow
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python -m pip install $(PIP_FLAGS) --no-deps -r $(2)
	@$(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(1)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/lent.pth"
endef

$(READY4): $(READY)
	$(call borrow,$(VENV4),requirements/gradio4.txt)
	@touch $@

$(READYNEO): $(READY)
	$(call borrow,$(VENVNEO),requirements/neo.txt)
	@touch $@

demo: .venv
	@set --; \
	if [ -n "$$ONCE" ]; then set -- "$$@" --once; fi; \
	if [ -n "$$FACE" ]; then set -- "$$@" --face "$$FACE"; fi; \
	if [ -n "$$PROMPT" ]; then set -- "$$@" --prompt "$$PROMPT"; fi; \
	exec $(VENV)/bin/python -m demo "$$@"

# Everything runs, whatever failed before it. The main suite runs beside the other two, each in its own fixed order; it
# is shown when it has ended, last, so that its summary is.
test: .venv .venv-gradio4 .venv-neo
	@failed=0; \
	$(VENV)/bin/ruff check . || failed=1; \
	$(VENV)/bin/ruff format --check . || failed=1; \
	$(VENV)/bin/mypy || failed=1; \
	export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1}; main=$$(mktemp); \
	$(VENV)/bin/python -m pytest $(ARGS) > $$main 2>&1 & suite=$$!; \
	trap 'kill $$suite 2>/dev/null; rm -f $$main' EXIT; trap 'exit 130' INT TERM; \
	$(VENV4)/bin/python -m pytest -q -p no:cacheprovider $(GRADIO4_TESTS) || failed=1; \
	$(VENVNEO)/bin/python -m pytest -q -p no:cacheprovider $(NEO_TESTS) || failed=1; \
	echo "The main suite:"; wait $$suite || failed=1; cat $$main; \
	exit $$failed

# What `make test` leaves out: tests marked slow.
test-slow: .venv
	$(VENV)/bin/python -m pytest --slow -m slow $(ARGS)

# Everything under bench/results; kept records are read again, so it goes on where it was ended. CPU: hours,
# shared by JOBS processes; a GPU is used where torch finds one.
PAIRS ?= 600
JOBS ?= 1
define sharded
	@seq $(JOBS) | xargs -P $(JOBS) -I{} $(VENV)/bin/python -m $(1) --shard {}/$(JOBS)
	$(VENV)/bin/python -m $(1)
endef

bench: .venv
	$(call sharded,bench.quality --split heldout --asks item --methods plain beyondfacial --name objects)
	$(call sharded,bench.quality --split heldout --pairs $(PAIRS) $(ARGS))
	$(call sharded,bench.quality --split heldout --methods fast --name fast)
	$(call sharded,bench.persons --split heldout)
	$(VENV)/bin/python -m bench.quality --quick --out bench/results
	$(VENV)/bin/python -m bench.faces

lint: .venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: .venv
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(VENV4) $(VENVNEO) demo/out bench/out .pytest_cache .ruff_cache .mypy_cache
