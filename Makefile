# The targets of the README; CMake and Ninja do the work. `./run TARGET` first installs what a target lacks.
# Variables one may set: JOBS, ASAN_TESTS, ASAN_TESTS_ALL, TSAN_TESTS (test programs to build and run under sanitizers),
# SLUICE_CUDA (kernels for GPUs: auto, where there is an nvcc; on; off), CUDA_ARCHITECTURES (of the program's kernels).

JOBS ?= $(shell nproc)
SETUP_SECONDS ?= 0
FUZZ_SECONDS ?= 60
SLUICE_CUDA ?= auto
# Machine code of 8.0, which later 8.x run, and of 9.0, with PTX for what comes after it. Tests have 9.0 alone.
CUDA_ARCHITECTURES ?= 80-real;90
# In `make test` the rooms that read what others wrote, or that deal in addresses; in `make test-all` the others too.
ASAN_TESTS ?= core data program executor checkpoint backend
ASAN_TESTS_ALL ?= ops graph models parallel planner optim inference train
TSAN_TESTS ?= backend whole

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build
.PHONY: setup build demo quick test test-all bench fuzz goldens interop format check clean \
        merges austen setup-cuda cuda-headers configure \
        test-build stages stage-quick stage-slow stage-all stage-asan stage-asan-all stage-tsan

SOURCES = $(shell find src apps tests bench -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)
RELEASE = build/release
TEST = build/test
CONFIGURE = cmake >/dev/null -G Ninja -S . -Wno-dev -DSLUICE_CUDA=$(SLUICE_CUDA)

# --- set-up -----------------------------------------------------------------------------------------------------

setup: merges austen cuda-headers

merges:
	@tools/fetch/gpt2_merges

austen:
	@tools/fetch/austen

# nvcc and the libraries of CUDA, from PyPI into build/cuda, for a machine that has none.
setup-cuda:
	@tools/fetch/cuda

# What a build that must have the GPU's kernels needs beside the toolkit: headers of cuDNN.
cuda-headers:
	@test "$(SLUICE_CUDA)" != on || tools/fetch/cuda --headers

# --- the program ------------------------------------------------------------------------------------------------

build: configure
	@ninja -C $(RELEASE) -j $(JOBS) --quiet

configure:
	@$(CONFIGURE) -B $(RELEASE) -DCMAKE_BUILD_TYPE=Release -DSLUICE_TESTS=OFF '-DSLUICE_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES)'

demo: BEGAN := $(shell date +%s)
demo: austen build
	@BUILD_SECONDS=$$(($$(date +%s) - $(BEGAN))) python3 tools/demo

bench: build
	@bench/run.py $(BENCH)

# --- checks that need no test ------------------------------------------------------------------------------------

check: configure
	@tools/check_layers --self-test
	@tools/check_layers
	@tools/check_sizes --self-test
	@tools/check_sizes
	@tools/check_links --self-test && tools/check_links
	@clang-format --dry-run -Werror $(SOURCES)
	@tools/tidy $(RELEASE)

format:
	@clang-format -i $(SOURCES)

# --- tests --------------------------------------------------------------------------------------------------------

# $(call run_tests,BUILD FOLDER,LABEL,MORE OPTIONS,NAME): one ctest run; tools/test_counts counts what it writes under NAME (if none is
# said, the label's).
run_tests = cd $(1) && ctest --output-on-failure --no-tests=ignore -j $(JOBS) -L '^$(2)$$' $(3) \
            --output-junit results/$(or $(4),$(2)).ctest.xml

# $(call sanitized,FOLDER,SANITIZERS,ROOMS,NAME): builds the rooms' tests so, and runs the quick ones.
comma := ,
empty :=
space := $(empty) $(empty)
sanitized = $(CONFIGURE) -B $(1) -DCMAKE_BUILD_TYPE=Sanitize -DCMAKE_CXX_FLAGS_SANITIZE=-O1 -DSLUICE_SANITIZE=$(2) && \
            ninja -C $(1) -j $(JOBS) --quiet $(addprefix test_,$(3)) && \
            ($(call run_tests,$(1),quick,-R '^test_($(subst $(space),|,$(strip $(3))))\.',$(4)))

test-build: merges
	@rm -rf build/*/results
	@$(CONFIGURE) -B $(TEST) -DCMAKE_BUILD_TYPE=Release -DSLUICE_TESTS=ON
	@ninja -C $(TEST) -j $(JOBS) --quiet

quick: test-build
	@code=0; $(MAKE) stage-quick || code=1; tools/test_counts $(TEST)/results || code=1; exit $$code

stage-quick:
	@$(call run_tests,$(TEST),quick)

stage-slow:
	@$(call run_tests,$(TEST),slow)

stage-all:
	@$(call run_tests,$(TEST),all)

stage-asan:
	@$(call sanitized,build/asan,address$(comma)undefined,$(ASAN_TESTS))

stage-asan-all:
	@$(call sanitized,build/asan,address$(comma)undefined,$(ASAN_TESTS_ALL),quick-all) && \
	  $(call run_tests,build/asan,arithmetic,-R '^test_backend\.')

stage-tsan:
	@$(call sanitized,build/tsan,thread,$(TSAN_TESTS))

# Every stage runs and is timed, whatever the ones before it found; without a build there is nothing to run.
stages:
	@tools/timed --start $(SETUP_SECONDS)
	@tools/timed set-up 3 $(MAKE) merges cuda-headers
	@tools/timed checks 4 $(MAKE) check
	@tools/timed --must 'CPU build' 8 $(MAKE) test-build
	@tools/timed 'quick tests' 1 $(MAKE) stage-quick
	@tools/timed 'slow tests' 9 $(MAKE) stage-slow
	@tools/timed sanitizers 7 $(MAKE) stage-asan

# The last line counts tests; a stage that failed without a failed test (a check, the build) counts as one.
report = code=0; tools/timed --table || code=1; \
         tools/test_counts --stages build/times.tsv $(TEST)/results build/asan/results build/tsan/results >build/counts.txt || \
         code=1; cat build/counts.txt; exit $$code

test:
	@rm -rf build/*/results; $(MAKE) stages; $(report)

test-all:
	@rm -rf build/*/results; $(MAKE) stages && tools/timed 'longest tests' 60 $(MAKE) stage-all && \
	  tools/timed 'all sanitized' 20 $(MAKE) stage-asan-all && \
	  tools/timed 'thread sanitizer' 30 $(MAKE) stage-tsan; $(report)

# Every fuzzer of tests/fuzz for FUZZ_SECONDS, from its corpus, which grows in build/fuzz: an input that crashes is left there.
fuzz:
	@cmake >/dev/null -G Ninja -S . -B build/fuzz -Wno-dev -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Sanitize \
	  -DCMAKE_CXX_FLAGS_SANITIZE=-O1 -DSLUICE_SANITIZE=address,undefined -DSLUICE_FUZZ=ON -DSLUICE_TESTS=OFF
	@for source in tests/fuzz/*.cpp; do \
	  name=$$(basename $$source .cpp) && ninja -C build/fuzz -j $(JOBS) --quiet fuzz_$$name && mkdir -p build/fuzz/corpus/$$name && \
	  build/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -print_funcs=0 -verbosity=0 \
	    -artifact_prefix=build/fuzz/ build/fuzz/corpus/$$name tests/fuzz/corpus/$$name || exit 1; \
	done

# Remakes the committed fixtures from Transformers: needs PyTorch, which nothing else here does.
goldens:
	@test -d build/venv || python3 -m venv build/venv
	@build/venv/bin/pip install --quiet -r tools/goldens/requirements.txt
	@build/venv/bin/python tools/goldens/make_goldens.py
	@build/venv/bin/python tools/goldens/bpe.py --write
	@build/venv/bin/python tools/goldens/checkpoints.py

# A million generated strings: our ids beside tiktoken's and Hugging Face's. And what we export of checkpoints in every form,
# in Transformers: the same weights and logits. Our events, as TensorBoard reads them.
interop: build merges
	@test -d build/venv || python3 -m venv build/venv
	@build/venv/bin/pip install --quiet -r tools/goldens/requirements.txt
	@build/venv/bin/python tools/goldens/bpe.py --sluice $(RELEASE)/sluice
	@build/venv/bin/python tools/goldens/checkpoints.py --check
	@build/venv/bin/python tools/goldens/checkpoints.py --ours $(RELEASE)/sluice
	@build/venv/bin/pip install --quiet -r tools/goldens/tensorboard.txt
	@build/venv/bin/python tools/goldens/events.py --sluice $(RELEASE)/sluice
	@build/venv/bin/python bench/real_run.py --tiny --sluice $(RELEASE)/sluice

clean:
	@rm -rf build/release build/test build/asan build/tsan build/times.tsv build/times.tsv.before build/counts.txt
