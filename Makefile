# `make` lists the targets. Every target sets up what it needs, from a machine with Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
# It has a wheel for each kind of hardware, thus no single hash in requirements.lock.
TORCH ?= torch==2.13.0

# What `make reproduce` runs; any can be set: make reproduce DATA=i3a ROOT=folder ROWS=dcae_mlp,cnn
# Rows are the files of conf/experiment; each brings the stages that it needs.
ROWS ?= dcae_plus,dcae_mlp,dcae_fisher,ensemble,cnn,codebook_nch,handcrafted_svm,dense_ae_mlp,lenet,dcae_linear,chance
DATA ?= synthetic
ROOT ?=
PROTOCOL ?= $(if $(filter $(DATA),synthetic snphep2),published,specimen)
FOLDS ?= 0,1,2,3,4
NAME ?= reproduce
# One job a core, up to eight, each with one thread: two threads of a job beside another busy process
# wait for each other, at a quarter of the speed of one.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 8 ? n : 8)))
ARGS ?=
FUZZ ?= 2000
AUDITOR = pip-audit==2.9.0
MUTATOR = mutmut==3.8.1
HOLES = api.osv.dev
DOCS := .cache/documentation
WITH_DOCS = PYTHONPATH=$(CURDIR):$(CURDIR)/$(DOCS) $(BIN)/python
SETTINGS = data=$(DATA) $(if $(ROOT),data.root=$(ROOT)) protocol=$(PROTOCOL) $(ARGS)
# W&B gets no pictures of each finished run, which the report draws once for all: a second and a half a run.
EXPERIMENT = name=$(NAME) $(if $(findstring logger,$(ARGS)),,logger.wandb.record=false) $(SETTINGS)

# What `make search` searches; the same command again goes on with the study.
STUDY ?= tuning
TRIALS ?= 30

.DEFAULT_GOAL := help
.PHONY: help install reproduce quick ablation labels search dashboard sync docs notebooks test coverage \
    fuzz mutants bench lint lock audit clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## set up .venv with the pinned versions

# setuptools first: it builds what comes as source alone. Nothing but torch is taken without a hash.
$(VENV)/installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/setuptools.lock
	$(PIP) install --require-hashes --requirement $(VENV)/setuptools.lock
	$(PIP) install --no-deps --no-build-isolation --use-pep517 --require-hashes \
	    --requirement requirements.lock
	$(PIP) install $(TORCH)
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

reproduce: install  ## the paper and its comparators, all folds, and their table (ROWS=, DATA=, ROOT=, JOBS=)
	$(BIN)/python -m hep2.rows $(ROWS) --jobs $(JOBS) fold=$(FOLDS) $(EXPERIMENT)
	$(BIN)/python evaluate.py name=$(NAME)

quick:  ## a smaller table in a few minutes: encoders of ten epochs, three folds (JOBS=, DATA=, ROOT=)
	$(MAKE) reproduce ROWS=quick,dcae_mlp,codebook_nch FOLDS=0,1,2 NAME=quick

ablation:  ## what each part of dcae_plus is worth, one at a time
	$(MAKE) reproduce ROWS=dcae_plus,dcae_mlp,dcae_fisher,dcae_joined,ablation NAME=ablation

labels:  ## what labels are worth: dcae_plus and the same network with 1, 2, 4 and all specimens
	$(MAKE) reproduce ROWS=label_efficiency NAME=label_efficiency

search: install  ## hyper-parameters of the head, by validation cells of all folds (TRIALS=, STUDY=)
	$(BIN)/python -m hep2.search --trials $(TRIALS) --folds $(FOLDS) name=$(STUDY) $(SETTINGS)

dashboard: install  ## W&B's own terminal viewer on the runs of a name, offline (NAME=)
	@rm -rf .cache/dashboard && mkdir -p .cache/dashboard/wandb
	@find -L runs/$(NAME) -type d -path '*/wandb/*run-*' -name '*run-*-*' -prune \
	    -exec sh -c 'ln -s "$$PWD/$$1" .cache/dashboard/wandb/' - {} \;
	$(BIN)/wandb leet .cache/dashboard/wandb

sync: install  ## upload the offline runs of a name to W&B; needs `wandb login` (NAME=)
	find -L runs/$(NAME) -type d -name 'offline-run-*' -prune -exec $(BIN)/wandb sync {} +

docs: install $(DOCS)/installed  ## the documentation as a site, docs/_build/html (REPOSITORY=address of the code)
	$(WITH_DOCS) -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

notebooks: install $(DOCS)/installed  ## run the notebooks of examples/ anew and keep what they show
	rm -rf examples/*/
	$(WITH_DOCS) $(DOCS)/bin/jupyter-execute --inplace --NotebookClient.record_timing=False examples/*.ipynb

$(DOCS)/installed: pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(DOCS) --group docs
	touch $@

test: install  ## the fast tests (about four minutes on two cores)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

coverage: install  ## the same, and which lines they reach; counting doubles their time
	$(BIN)/python -m pytest --cov --numprocesses auto --dist worksteal

fuzz: install  ## spoilt files at every door, thousands at each (FUZZ=2000; about half an hour)
	HEP2_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/test_fuzz.py

mutants: install  ## does a test fail for every small fault put into the rules? (half an hour)
	$(PIP) install $(MUTATOR)
	OMP_NUM_THREADS=1 $(BIN)/python -m mutmut run
	$(BIN)/python -m mutmut results

bench: install  ## speed, memory and start-up against their targets (half an hour, quiet machine)
	$(BIN)/python -m benchmarks

lint: install  ## formatting, style, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: install  ## renew requirements.lock from pyproject.toml
	echo $(TORCH) | $(BIN)/uv pip compile pyproject.toml - --quiet --all-extras --universal \
	    --python-version 3.10 --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	    --output-file requirements.lock
	sed -E -i.all '/^(torch|triton|(nvidia|cuda)-[a-z0-9-]+)==/,/[^\\]$$/d' requirements.lock
	rm requirements.lock.all

audit: install  ## what is locked and installed: licences, known bad versions, known holes
	@$(BIN)/python tests/dependencies.py
	$(BIN)/python -m pytest --quiet tests/test_supply_chain.py
	@if $(BIN)/python -c "from socket import *; create_connection(('$(HOLES)', 443), 5)" 2>&-; then \
	    $(BIN)/uv pip freeze --exclude-editable | sed 's/+.*//' | $(BIN)/uv tool run $(AUDITOR) \
	        --vulnerability-service osv --no-deps --disable-pip --requirement /dev/stdin; \
	else echo "$(HOLES) is out of reach: only our own list of bad versions was checked"; fi

clean:  ## remove caches and the virtual environment; runs and reports stay
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis mutants docs/_build docs/examples *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
