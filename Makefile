# Everything a person or CI runs. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo loop test lint pytest matrix wheel wheel-check aarch64 cv-bridge bench soak fuzz docs pictures linkcheck clean

# A sourced ROS 2 is used as it is. Without one, `wheels` bring the same client library into the virtual environment.
IS_SOURCED := import rclpy, sys, importlib.metadata as m; sys.exit(any(m.distributions(name="ros-rclpy")))
ROS := $(if $(ROS_DISTRO),$(shell $(PYTHON) -c '$(IS_SOURCED)' 2>/dev/null && echo $(ROS_DISTRO)))
ROS := $(or $(ROS),wheels)
# Wheels of two distributions are never mixed: another one's begin in an empty environment.
WHEELS ?= kilted
READY := $(VENV)/.ready-$(ROS)$(if $(filter wheels,$(ROS)),$(patsubst %,-%,$(filter-out kilted,$(WHEELS))))
PARTS ?= runtime training dev docs
REQUIREMENTS := $(patsubst %,requirements/%.txt,$(PARTS) $(if $(filter wheels,$(ROS)),ros-$(WHEELS) interfaces-$(WHEELS)))
# Test files at a time, as many as the memory has room for: of one process 4 GB, with the nodes that it starts.
# What a container may take is in the second, by cgroups of version 1 in the third.
FREE_BYTES := { awk '/^MemAvailable/ {print $$2 * 1024}' /proc/meminfo; \
	cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; } 2>/dev/null || true
JOBS ?= $(shell { $(FREE_BYTES); } | awk 'BEGIN {n = 3} $$1 > 0 && $$1 / 4e9 < n {n = int($$1 / 4e9)} END {print n < 1 ? 1 : n}')
INTERFACES := $(shell find interfaces -type f -not -path '*/__pycache__/*')

export ROS_LOG_DIR ?= $(CURDIR)/$(VENV)/log
ifeq ($(ROS),wheels)
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)
unexport PYTHONPATH
# Set by a Python of another environment, it would keep this one's from finding its ROS libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
else
# The compiled messages of the sourced ROS 2 need the numpy they were built with.
export PIP_CONSTRAINT := $(CURDIR)/$(VENV)/constraints.txt
endif

help:  ## list what can be made
	@sed -n 's/^\([a-z0-9-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

venv: $(READY)  ## set up .venv: ROS 2, torch, ONNX Runtime (5 GB; PYTHON=python3.12 chooses another Python, WHEELS=jazzy another ROS 2)

demo: export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
demo: $(READY)  ## draw, train, export, run and evaluate (DATA=folder WEIGHTS=file BACKBONE=name: on your images)
	$(BIN)/python -m demo.run $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(BACKBONE),--backbone "$(BACKBONE)")

loop: export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
loop: $(READY)  ## record, choose, label, train, compare, deploy, record again: once around (needs Chromium)
	$(BIN)/python -m demo.loop

test: lint pytest  ## lint, types, unit tests, training on tiny data, nodes over real DDS

# Schemas and rules are the programs' own: none asks the network.
SCHEMA = $(BIN)/check-jsonschema --builtin-schema vendor
lint: $(READY)  ## lint, types, and what containers, CI, forms and citation are written by
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(SCHEMA).github-workflows .github/workflows/*.yml
	$(SCHEMA).github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(SCHEMA).github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA).citation-file-format CITATION.cff

# A worker that dies ends the run: beside one that took its place the others would wait for ever.
pytest: export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
# Small networks share nothing out: of three test processes with two threads each on two cores one waits for the other.
pytest: export OMP_NUM_THREADS ?= 1
pytest: $(READY)  ## the tests alone, or some of them (TESTS=test/image; JOBS=3: files at a time)
	$(BIN)/pytest -n $(JOBS) --dist loadfile --max-worker-restart 0 $(TESTS)

matrix:  ## the tests with each Python and each ROS 2 in turn (CELLS="3.14-kilted", PYTHONS="paths", MINUTES=60); hours
	$(PYTHON) requirements/matrix.py $(CELLS) $(if $(PYTHONS),--pythons $(PYTHONS)) $(if $(TESTS),--tests $(TESTS)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(RESOLVE),--resolve)

wheel: $(READY)  ## the runtime as a wheel and an sdist, in build/dist
	$(BIN)/python -m build --outdir build/dist

# Its requirements come as on anybody's machine; what none of pip's packages may need is a compiler: there is none to call.
# ROS 2 is no requirement of the wheel, and vision_msgs is compiled from `interfaces`.
wheel-check: CHECK := build/wheel_check
wheel-check: wheel  ## the wheel in an empty environment, which pip fills: programs, a scored model, a node; minutes
	$(PYTHON) -m venv --clear $(CHECK)
	CC=false CXX=false $(CHECK)/bin/python -m pip install --quiet --disable-pip-version-check \
		"$$(ls -t build/dist/*.whl | head -n 1)[cpu,page]"
ifeq ($(ROS),wheels)
	$(CHECK)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/ros-$(WHEELS).txt -r requirements/interfaces-$(WHEELS).txt
	$(CHECK)/bin/python interfaces/build.py
endif
	CNN_PERCEPTION_WHEEL_ENVIRONMENT=$(CURDIR)/$(CHECK) $(BIN)/pytest test/project/install/test_wheel.py

aarch64: $(READY)  ## what pip would install on an Arm robot, and whether that takes a compiler (nothing is installed)
	$(BIN)/python requirements/resolve.py

cv-bridge: CV_BRIDGE := build/cv_bridge
cv-bridge:  ## the tests that need a real cv_bridge, with Debian's or Ubuntu's (apt install python3-cv-bridge python3-pil)
	@/usr/bin/python3 -c 'import cv_bridge, PIL' || { echo 'error: apt install python3-cv-bridge python3-pil' >&2; exit 2; }
	/usr/bin/python3 -m venv --system-site-packages $(CV_BRIDGE)
	/usr/bin/python3 -c 'import numpy; print("numpy==" + numpy.__version__)' > $(CV_BRIDGE)/constraints.txt
	$(CV_BRIDGE)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CV_BRIDGE)/constraints.txt -r requirements/test.txt simplejpeg
	$(CV_BRIDGE)/bin/python -m pytest test/image/test_raw.py -k cv_bridge

bench: export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
bench: $(READY)  ## ratios in a quarter of an hour, on an idle machine (ALL=1: every one; DATA=folder of class folders, WEIGHTS=file, BACKBONE=name: training's too)
	$(BIN)/python -m benchmark $(if $(ALL),--all) $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(BACKBONE),--backbone "$(BACKBONE)")

soak: export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
soak: $(READY)  ## the node under all that a robot does to it: memory, threads, file handles (MINUTES=2)
	$(BIN)/python -m benchmark.soak $(if $(MINUTES),--minutes "$(MINUTES)")

fuzz: $(READY)  ## damaged images, models, tables and bags: nothing gets past the errors meant for it (MINUTES=2, SEED=text)
	$(BIN)/python -m fuzz $(if $(MINUTES),--minutes "$(MINUTES)") $(if $(SEED),--seed "$(SEED)")

docs: $(READY)  ## the site of docs/, in build/docs/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/docs/trees docs build/docs/html
	@echo "build/docs/html/index.html"

pictures: $(READY)  ## the pictures of README and docs/, of what demo and loop have left (NAMES="overlay label", AUTO=folder of training.auto, ALL=1: measured ones too); needs Chromium
	$(BIN)/python -m demo.pictures $(NAMES) $(if $(AUTO),--auto "$(AUTO)")
	$(if $(ALL),$(BIN)/python test/support/textbook.py --slow docs/textbook/fast_convolutions.md)

linkcheck: $(READY)  ## the links of docs/ to other sites
	$(BIN)/python -m sphinx -W --keep-going -q -b linkcheck -d build/docs/trees docs build/docs/linkcheck

clean:  ## remove what was made, .venv too; runs/ and models/ stay
	rm -rf $(VENV) build install log demo_output loop_output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Of pip's many lines, the errors and the large downloads.
PIP = $(BIN)/python -m pip install --no-input --disable-pip-version-check --progress-bar off
BRIEFLY = 2>&1 | sed -un -e '/^ *error/Ip' -e 's/^ *Downloading \(.* ([0-9]\{2,\}[0-9.]* [MG]B)\).*/      \1/p'

$(READY): $(filter-out %-kilted.txt %-jazzy.txt,$(wildcard requirements/*.txt)) $(REQUIREMENTS) $(INTERFACES) setup.py
	@$(PYTHON) requirements/check.py $(ROS)
	@echo "[1/4] $(VENV), with $(if $(filter wheels,$(ROS)),ROS 2 from wheels,the sourced ROS 2 $(ROS))"
	@if [ "$$($(BIN)/python -V 2>&1)" != "$$($(PYTHON) -V 2>&1)" ] || [ -n "$(filter-out $(READY),$(wildcard $(VENV)/.ready-*))" ]; then \
		$(PYTHON) -m venv --clear $(if $(filter wheels,$(ROS)),,--system-site-packages) $(VENV); fi
ifneq ($(ROS),wheels)
	@$(PYTHON) -c 'import numpy; print("numpy==" + numpy.__version__)' > $(PIP_CONSTRAINT)
endif
	@$(PIP) --upgrade pip $(BRIEFLY)
	@echo "[2/4] packages$(if $(filter training,$(PARTS)),; the first time takes minutes and 5 GB)"
	@$(PIP) $(patsubst %,-r %,$(REQUIREMENTS)) $(BRIEFLY)
	@echo "[3/4] vision_msgs and bond$(if $(filter wheels,$(ROS)),, of the sourced ROS 2)"
ifeq ($(ROS),wheels)
	@$(BIN)/python interfaces/build.py
endif
	@echo "[4/4] cnn_perception, as a link to this folder"
	@$(PIP) --no-deps --no-build-isolation -e . $(BRIEFLY)
	@touch $@
