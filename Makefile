# make demo   the whole way on a made-up scene, or on your own: make demo IMAGE=… LABELS=… FIELD=…
# make test   every check; make lint, make zip and make clean do a part
# make test-lowest   the engine's tests with the lowest versions of what it needs
# make faults jobs killed and inputs made to do harm, at length; SEED=… KILLS=240 PROCESSES=60 MUTATIONS=2000
# Both commands first install what this machine lacks, and say what. All else goes to TERRAZZO_CACHE.
export TERRAZZO_CACHE := $(or $(TERRAZZO_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/terrazzo)
# QGIS's own Python: on Debian and Ubuntu that is the system's, whatever else is first in PATH.
export PYTHON ?= /usr/bin/python3
WORKER_PYTHON = $$(cat "$(TERRAZZO_CACHE)/worker.path")
export IMAGE LABELS FIELD OUT EPOCHS
# Given to make alone: a shell may have an EMAIL of its own.
RELEASE = $(foreach name,HOMEPAGE TRACKER REPOSITORY EMAIL,$(if $(filter command,$(origin $(name))),$(name)='$($(name))'))

.PHONY: help demo test lint faults zip clean qgis worker tools

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: qgis worker
	@TERRAZZO_PYTHON="$(WORKER_PYTHON)" $(PYTHON) resources/demo/run.py

test: qgis worker tools
	@TERRAZZO_PYTHON="$(WORKER_PYTHON)" .ci/test

test-lowest: qgis
	@.ci/test_lowest

lint: worker tools
	@TERRAZZO_PYTHON="$(WORKER_PYTHON)" .ci/test lint

faults: qgis worker
	@PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 $(WORKER_PYTHON) tests/faults/run.py \
	  --seed $(or $(SEED),0) --kills $(or $(KILLS),240) --processes $(or $(PROCESSES),60) \
	  --mutations $(or $(MUTATIONS),2000)

zip:
	@.ci/build_zip build/terrazzo.zip
	@$(PYTHON) .ci/release_metadata.py build/terrazzo.zip $(RELEASE)
	@$(PYTHON) .ci/check_zip.py build/terrazzo.zip

clean:
	rm -rf build demo .qgis-settings .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

qgis:
	@.ci/install_qgis

worker: qgis
	@.ci/build_worker

tools: qgis worker
	@TERRAZZO_PYTHON="$(WORKER_PYTHON)" .ci/install_tools
