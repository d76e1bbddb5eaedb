# `make demo` and `make test` set up what is missing first; see tools/setup.sh.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

# What the demo looks at (a file, folder, video or device; empty: a bundled stream), and for how long; the soak likewise.
SOURCE ?=
SECONDS := 10
soak: SECONDS := 3600
export SOURCE

run := bash tools/setup.sh run && source tools/env.sh
test := bash tools/setup.sh test && source tools/env.sh

.PHONY: demo demo-learning soak test test-all bench lint clean

# Stdout carries the messages on /face_attributes as lines of JSON, and nothing else.
demo:
	@$(run) && python tools/demo.py --source "$$SOURCE" --seconds "$(SECONDS)"

# People are enrolled, learned and named: those of SOURCE, a folder of pictures a person, or the bundled ones.
demo-learning:
	@$(test) && python tools/demo_learning.py --source "$$SOURCE"

# The nodes enrol, learn, go back and forget for SECONDS; exit status 1 where memory or files grow, or something fails.
soak:
	@$(test) && python tools/soak.py --seconds "$(SECONDS)"

test:
	@$(test) && python -m pytest -n 2

test-all:
	@$(test) && python -m pytest -n 2 -m ""

bench:
	@$(test) && face-mtl bench --report docs/benchmark.md --plot docs/benchmark.png

lint:
	@$(test) && ruff check . && mypy && bash -n tools/setup.sh tools/env.sh .ci/run

clean:
	rm -rf .venv build install log dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
