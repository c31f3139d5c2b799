# Meantime: `make app` starts it, `make test` checks it. Both set up .venv once; later starts take seconds.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help app test format clean env env-dev browser
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
# make app PORT=8600; without it Streamlit takes 8501 or the next free one.
PORT ?=

help:  ## show this list
	printf 'make app      set up once, start the app and print its address (PORT=8600 to choose a port)\n'
	printf 'make test     set up once, then lint, format check, types and all tests\n'
	printf 'make format   format the code and mend what ruff can mend\n'
	printf 'make clean    remove .venv, caches and expired downloads\n'

app: env  ## start the app
	echo "Starting Meantime; stop it with Ctrl-C."
	exec $(PYTHON) -m streamlit run app.py $(if $(PORT),--server.port $(PORT))

# Two processes; what drives a browser comes after the rest, for pages that compete with kernels are slow.
test: env-dev browser  ## everything that must pass; pytest last, so that its closing line ends the output
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy fusion
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not browser"
	exec $(PYTHON) -m pytest -n 2 --dist loadfile -m browser

format: env-dev  ## format the code
	$(PYTHON) -m ruff check --fix-only --quiet
	$(PYTHON) -m ruff format

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find static -type f ! -name .gitignore -delete

# The environment. A copy of the requirements, written only after pip has succeeded, says what is installed: a
# change of content installs again, an interrupted first start is completed by the next one.
define install
	if ! cmp -s <(cat $(2)) $(VENV)/$(1).installed || ! $(PYTHON) -c '' 2>/dev/null; then
		$(make-venv)
		echo "Installing $(1); the first time takes a few minutes."
		$(PYTHON) -m pip install -qq --disable-pip-version-check -r $(1)
		cat $(2) > $(VENV)/$(1).installed
	fi
endef

define make-venv
if ! $(PYTHON) -m pip --version >/dev/null 2>&1; then
			system=$$(command -v python3.11 || command -v python3 || true)
			if [ -z "$$system" ] || ! "$$system" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
				echo "Meantime needs Python 3.11 or newer, found $${system:-none}" \
					"$$([ -z "$$system" ] || "$$system" --version): install Python 3.11 and try again." >&2
				exit 1
			fi
			echo "Creating $(VENV) with $$("$$system" --version)."
			"$$system" -m venv --clear $(VENV) || {
				echo "$$system cannot create an environment; on Debian and Ubuntu: apt install python3-venv" >&2
				exit 1
			}
		fi
endef

env:
	$(call install,requirements.txt,requirements.txt)

env-dev:
	$(call install,requirements-dev.txt,requirements.txt requirements-dev.txt)

# Browser tests need Chromium. It is installed where that needs no question; elsewhere they are skipped and say so
# (with CI=true that is a failure, decided in the tests).
browser:
	if command -v chromium chromium-browser google-chrome >/dev/null; then exit 0; fi
	if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
		echo "Installing Debian's Chromium for the browser tests."
		export DEBIAN_FRONTEND=noninteractive
		{ apt-get -qq update && apt-get -qq install --no-install-recommends chromium; } >/dev/null ||
			echo "Chromium could not be installed: the browser tests are skipped." >&2
	else
		echo "No Chromium found: the browser tests are skipped. On Debian: sudo apt install chromium" >&2
	fi
