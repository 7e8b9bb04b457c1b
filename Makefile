# demo   a trained GAN and its picture, from a fresh machine
# test   lint and the whole test suite, from a fresh machine
# tools  the tools of docs/tools.md at work on the layers: install them beside torch and run tests/tools
# bench  ours against stock PyTorch, torch.compile, oneDNN and the floor
# lint   ruff, mypy, clang-format
# sanitize  the operator's tests under AddressSanitizer and UndefinedBehaviourSanitizer
# cuda   compile, link and import the CUDA kernels, in an environment of its own; where FUSED_GAN_CUDACPU names the folder
#        of a CUDA runtime for CPUs, run the tests for CUDA on it, with no GPU
# gpu-check  on a machine with an NVIDIA GPU, in its Python environment: build, test, sanitize, tune, benchmark
# gpu-library  what gpu-check --library takes: operators and test programs for $(GPU_ARCH) alone, stripped
# docs   the API reference, from the docstrings, into build/docs
# commands  docs/commands.md, from the help of every command
# clean  remove environments and builds
#
# Needed: python3 ≥ 3.10 with venv, make, a C++20 compiler. Everything else is installed into $(VENV).
SHELL      := /bin/bash
PYTHON     ?= python3
VENV       ?= .venv
TORCH      ?= torch==2.13.0
CUDA_VENV  ?= .venv-cuda
CUDA_TORCH ?= torch==2.11.0# a CUDA 13.0 build
# Compilers at a time; with CUTLASS's headers each takes 5 GB. Empty where Linux's figures are not to be had.
export MAX_JOBS ?= $(if $(wildcard /proc/meminfo),$(shell awk -v cores=$$(nproc) \
    '/MemAvailable/ { fit = int($$2 / 5e6); print fit < 1 ? 1 : fit < cores ? fit : cores }' /proc/meminfo))
NVCC       ?= $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))

CUTLASS     := nvidia-cutlass==4.2.0.0# headers alone are used: without its dependencies
CUOBJDUMP   := nvidia-cuda-cuobjdump==13.2.78# reads any older code
BACKPACK    := backpack-for-pytorch==1.7.1
BUILD_NEEDS := 'setuptools>=77' pybind11 ninja numpy
SOURCES     := setup.py pyproject.toml $(shell find csrc -type f)
DEMO_RUN    := runs/demo
BIN         := $(VENV)/bin

# Without torch.compile, whose compiler would run under the sanitizers too, and without the last digits of tanh, which
# rest on fused multiply-adds that an instrumented build does not have. No leak check: Python keeps what it has.
SANITIZED := $(patsubst %,ops/test_%.py,equivalence special_values mlp properties determinism derivatives errors \
             functorch autocast instruction_sets poisoned_memory cpu_families) nn/test_layers.py
NOT_SANITIZED := not compile and not units_of_the_last_place

.PHONY: demo test tools bench lint format docs commands sanitize cuda gpu-check gpu-library clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@rm -rf $(DEMO_RUN)
	$(BIN)/fused-gan train mlp-gan --out $(DEMO_RUN)

test: lint
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

tools: $(VENV)/tools
	$(BIN)/python -m pytest tests/tools $(PYTEST_FLAGS)

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.report $(BENCH_FLAGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*' 'tests/*.cu' 'tests/*.cpp' 'tests/*.h')

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*' 'tests/*.cu' 'tests/*.cpp' 'tests/*.h')

API := fused_gan $(addprefix fused_gan.,nn ops data models systems training training.evaluate evaluation)

docs: $(VENV)/installed
	$(BIN)/pdoc --docformat google --output-directory build/docs $(API)

commands: $(VENV)/installed
	$(BIN)/python docs/commands.py

# AVX-512's masked moves are invisible to AddressSanitizer; AVX2 and portable run the same loops without them.
sanitize: $(VENV)/installed
	@mkdir -p build
	FUSED_GAN_SANITIZE=1 FUSED_GAN_CUDA=0 $(BIN)/python setup.py build --build-base build/sanitize \
	    --build-lib build/sanitize/lib > build/sanitize.log 2>&1 || { tail -n 60 build/sanitize.log; exit 1; }
	cd tests && PYTHONPATH=$(CURDIR)/build/sanitize/lib \
	    LD_PRELOAD="$(foreach library,asan.so ubsan.so stdc++.so.6,$$($(CXX) -print-file-name=lib$(library)))" \
	    ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    PYTEST_ADDOPTS="-k '$(NOT_SANITIZED)'" $(abspath $(BIN))/python -m pytest -p no:cacheprovider $(PYTEST_FLAGS) $(SANITIZED)

# What a CUDA runtime for CPUs executes, uncompressed as it reads it; that of sm_80 is in the build anyway (8.0+PTX).
PTX := -no-compress -gencode=arch=compute_90a,code=compute_90a

cuda:
ifeq ($(NVCC),)
	@echo "make cuda: SKIPPED, no nvcc (looked for in CUDA_HOME, in PATH and in /usr/local/cuda)"
else
cuda: $(CUDA_VENV)/installed
	cd tests && $(abspath $(CUDA_VENV))/bin/python cuda/check_import.py
	$(CUDA_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps $(CUOBJDUMP)
	PATH=$(dir $(NVCC)):$$PATH $(CUDA_VENV)/bin/python tests/cuda/check_ptxas.py build/cuda.log
ifneq ($(FUSED_GAN_CUDACPU),)
	$(CUDA_VENV)/bin/pip install --quiet --disable-pip-version-check 'fused_gan[test]'
	$(MAKE) -C tests/cuda/stand_in test CUDACPU=$(FUSED_GAN_CUDACPU) BUILD=$(abspath build/stand-in) \
	    PYTHON=$(abspath $(CUDA_VENV))/bin/python
else
	@echo "make cuda: tests NOT RUN, FUSED_GAN_CUDACPU names no CUDA runtime for CPUs"
endif
endif

# No environment of its own: torch, pytest and the rest are those of $(PYTHON). GPU_FLAGS: see its --help.
gpu-check:
	$(PYTHON) -m benchmarks.gpu.check $(GPU_FLAGS)

GPU_ARCH    ?= 9.0a
GPU_LIBRARY := build/gpu-library

# For a machine with a GPU, the same torch, and perhaps no CUTLASS and little patience.
gpu-library: $(CUDA_VENV)/environment
	FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=$(GPU_ARCH) $(CUDA_VENV)/bin/python setup.py build_ext \
	    --build-temp build/gpu-temp --build-lib build/gpu-lib
	$(MAKE) -C tests/cuda -j$$(nproc) DEVICE=sm_$(subst .,,$(GPU_ARCH)) BUILD=$(abspath build/cuda-device) \
	    OBJECTS=$(abspath build/gpu-temp) $(abspath build/cuda-device)/test_pointwise $(abspath build/cuda-device)/test_product
	rm -rf $(GPU_LIBRARY) && mkdir -p $(GPU_LIBRARY)
	cp build/gpu-lib/fused_gan/libfused_gan.so build/gpu-lib/fused_gan/build.json build/cuda-device/test_pointwise \
	    build/cuda-device/test_product $(GPU_LIBRARY)
	strip $(GPU_LIBRARY)/libfused_gan.so $(GPU_LIBRARY)/test_pointwise $(GPU_LIBRARY)/test_product
	@du -h $(GPU_LIBRARY)/*

$(VENV)/environment $(CUDA_VENV)/environment:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check $(WANTED_TORCH) $(BUILD_NEEDS)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps $(CUTLASS)
	@touch $@
$(VENV)/environment: WANTED_TORCH = $(TORCH)
$(CUDA_VENV)/environment: WANTED_TORCH = $(CUDA_TORCH)

$(VENV)/installed: $(VENV)/environment $(SOURCES)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@touch $@

# Beside the torch that is there, never instead of it. BackPACK alone comes without its dependencies: its examples want
# torchvision, which a registry has for one build of torch, and which beside another build keeps transformers, and so
# PEFT, from being imported.
$(VENV)/tools: pyproject.toml | $(VENV)/installed
	$(BIN)/python -c 'import torch; print("torch==" + torch.__version__)' > $@.constraint
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $@.constraint 'fused_gan[tools]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(BACKPACK)
	@touch $@

# From the source distribution, so that its completeness is proved too.
$(CUDA_VENV)/installed: $(CUDA_VENV)/environment $(SOURCES)
	rm -rf build/sdist
	$(CUDA_VENV)/bin/python setup.py --quiet sdist --dist-dir build/sdist
	FORCE_CUDA=1 NVCC_APPEND_FLAGS="-Xptxas=-v $(PTX)" $(CUDA_VENV)/bin/pip install --disable-pip-version-check --no-build-isolation --no-deps \
	    --force-reinstall --verbose build/sdist/fused_gan-*.tar.gz > build/cuda.log 2>&1 || { tail -n 60 build/cuda.log; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) $(CUDA_VENV) build dist *.egg-info fused_gan/*.so fused_gan/build.json
