# Sets everything up on a fresh machine with Python 3.11 to 3.13, make and git; then runs what was asked for.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
RUN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
# mosquitto lies in sbin on Debian
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-training lint bench deb test-arm64 test-amd64 clean

help:  ## this list
	@sed -n 's/^\([a-z0-9% -]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: .venv/ready  ## virtual environment with the locked dependencies

demo: .venv/ready  ## broker, carrier, both processes and three sessions; CAMERA=0 or VIDEO=clip.mp4 PORTRAIT=id.jpg for real input
	@.ci/packages mosquitto || true
	@$(RUN)/vouch-sim demo $(if $(CAMERA),--camera "$(CAMERA)") $(if $(VIDEO),--video "$(VIDEO)") \
	  $(if $(PORTRAIT),--portrait "$(PORTRAIT)") $(if $(STAY),--stay)

test: .venv/ready lint  ## checks and tests
	@.ci/packages mosquitto softhsm2 chromium systemd iproute2 cage seatd xwayland fonts-noto-cjk || true
	@.ci/packages swtpm swtpm-tools tpm2-tools libtpm2-pkcs11-1 libtpm2-pkcs11-tools || true
	@$(RUN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' && $(MAKE) --no-print-directory .venv-tflite/ready || true
	$(RUN)/pytest

test-training: .venv-train/ready  ## the training code, in an environment with torch (a large download)
	.venv-train/bin/pytest tests/training

lint: .venv/ready  ## ruff, mypy, import contracts
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports

bench: .venv/ready  ## milliseconds by stage and memory
	$(RUN)/vouch bench

# Where `make test-arm64` keeps its Debian root, and which tests run there with the box's own wheels.
BOX ?= /var/tmp/vouch-box
SUITE ?= bookworm
BOX_TESTS ?= tests/unit tests/integration

deb: $(UV)  ## Debian package for Raspberry Pi OS; ARCH=amd64 for another computer
	@.ci/packages debhelper dpkg-dev lintian
	@systemd/make-deb $(or $(ARCH),arm64)

test-arm64 test-amd64: test-%: .venv/ready  ## the package installed, upgraded, removed, purged in a Debian root (as root; slow)
	@.ci/packages debhelper dpkg-dev debootstrap qemu-user-static
	@systemd/box-root $* $(SUITE) $(BOX)/$*-$(SUITE)
	@LINT=no systemd/make-deb $* && cp build/deb/$*/vouch_*_$*.deb $(BOX)/$*-$(SUITE)/
	@systemd/box-tests $* $(SUITE) $(BOX)/$*-$(SUITE)
	VOUCH_BOX=$(BOX)/$*-$(SUITE) VOUCH_BOX_TESTS="$(BOX_TESTS)" $(RUN)/pytest -s tests/package

clean:  ## forget what was made here
	rm -rf .venv .venv-tflite .venv-train .tools build .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/ready: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --locked --python "$(PYTHON)" --extra sim --extra pkcs11
	@touch $@

# tflite-runtime 2.14 ends at Python 3.11 and numpy 1: an environment of its own, to compare the two runtimes.
.venv-tflite/ready: pyproject.toml uv.lock | $(UV)
	@UV_PROJECT_ENVIRONMENT=.venv-tflite $(UV) sync --quiet --locked --no-default-groups --no-install-project \
	  --python "$(PYTHON)" --extra tflite-runtime
	@touch $@

.venv-train/ready: pyproject.toml uv.lock | $(UV)
	@UV_PROJECT_ENVIRONMENT=.venv-train $(UV) sync --quiet --locked --python "$(PYTHON)" --extra train
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Vouch needs Python 3.11 to 3.13; name one with: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@echo "Setting up: virtual environment and locked dependencies (once)"
	@$(PYTHON) -m venv .tools || { echo "venv is missing: apt install python3-venv"; exit 1; }
	@.tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
