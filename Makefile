# Everything a person or CI runs. `make` lists it.
PYTHON ?= python3
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo test bench clean

VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin

# A sourced ROS 2 is used as it is; without one, its client library comes as wheels into the virtual environment.
IS_SOURCED := import rclpy, importlib.metadata as m; print(*m.distributions(name="ros-rclpy") or ["sourced"])
ROS := $(or $(if $(ROS_DISTRO),$(shell $(PYTHON) -c '$(IS_SOURCED)' 2>/dev/null | sed -n 's/^sourced$$/$(ROS_DISTRO)/p')),wheels)
READY := $(VENV)/.ready-$(ROS)
REQUIREMENTS := $(patsubst %,requirements/%.txt,runtime training dev $(if $(filter wheels,$(ROS)),ros interfaces))
INTERFACES := $(if $(filter wheels,$(ROS)),$(shell find interfaces -type f -not -name '*.pyc'))

# Another environment's guard variable would keep this one's Python from finding its ROS libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
export ROS_LOG_DIR ?= $(VENV)/log
ifeq ($(ROS),wheels)
export AMENT_PREFIX_PATH := $(VENV)
endif

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

