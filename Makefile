# Two commands for a fresh machine: `make demo` and `make test`. Each sets up what it needs by itself.
.DEFAULT_GOAL := help
.PHONY: help demo test test-headless lint bench screenshots clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|' 2>/dev/null \
	|| grep -hE '^[a-z-]+:.*## ' Makefile

demo: ## set everything up and run the whole loop on generated images
	@sh scripts/setup.sh demo
	@.venv/bin/napari-unet demo

test: ## set everything up and run all tests; ARGS="-k name" to choose some
	@sh scripts/setup.sh test
	@sh scripts/test.sh $(ARGS)

test-headless: ## run the tests where neither napari nor Qt is installed
	@sh scripts/setup.sh headless
	@NAPARI_UNET_HEADLESS=1 .venv-headless/bin/python -m pytest -n 2 -m "not gui and not slow" $(ARGS)

lint: ## check style, format and types
	@sh scripts/setup.sh lint
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

bench: ## compare accuracy on the data sets in a folder: make bench DATA=DIR
	@test -n "$(DATA)" || { echo "bench: say where the data are: make bench DATA=DIR" >&2; exit 2; }
	@sh scripts/setup.sh bench
	@.venv/bin/python benchmarks/handful.py --data "$(DATA)" $(ARGS)

screenshots: ## take the pictures of docs/images anew, in a real window
	@sh scripts/setup.sh test
	@sh scripts/windowed.sh scripts/screenshots.py

clean: ## remove everything made here: environments, caches, builds
	rm -rf .venv .venv-headless build dist napari-unet-demo .coverage
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
