# WenLan in C.  `make help` lists the targets.
#
# One non-recursive Makefile: a folder is an archive (libwl_FOLDER.a) made of all
# its .c files but main_*.c; each main_NAME.c is the executable wenlan-NAME; each
# tests/test_*.c a cmocka program.  Folders may use those before them, in this order:
FOLDERS = ops ingest clean shards loader train eval

VARIANT ?= release
B       := build/$(VARIANT)
CC      ?= cc
PREFIX  ?= /usr/local
# The processor to compile for; ARCH=x86-64-v3 makes binaries that other machines run.
ARCH    ?= native
# DEVELOPER=0 lets warnings of a compiler that we do not know pass.
DEVELOPER ?= 1
Q       := $(if $(V),,@)

# What the build needs from Debian; ops/setup.sh installs what is missing.  Nothing here
# fails without them, so that `make test` on a bare machine gets as far as the set-up.
PKGS := sqlite3 jansson yaml-0.1 libarchive icu-uc icu-i18n libturbojpeg libjpeg libpng libwebp \
	libwebpdemux libgif \
	libcrypto opencc zlib libcurl libdeflate rdkafka libbrotlidec libzstd libavif libhs \
	ompi-c
HAVE := $(shell pkg-config --exists $(PKGS) 2>/dev/null && echo yes)
PKG_CFLAGS := $(if $(HAVE),$(shell pkg-config --cflags $(PKGS)))
PKG_LIBS   := $(if $(HAVE),$(shell pkg-config --libs $(PKGS)))

# Tests and benchmarks of several threads must not spin on a busy machine.
export GOMP_SPINCOUNT ?= 1000

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wvla -Wundef \
	-Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings $(if $(filter 1,$(DEVELOPER)),-Werror)
CPPFLAGS += -I. -D_GNU_SOURCE $(PKG_CFLAGS)
CFLAGS  += -std=c11 -g $(WARN) -march=$(ARCH) -fopenmp -MMD -MP
# Data stages promise the same bits on every machine, so nothing is contracted to FMA
# there; the numeric kernels of train/ promise a tolerance and are.
# gcc 12 holds back from 512-bit vectors, which the memory-bound loops of train/ profit from.
WIDE := $(if $(filter x86_64,$(shell uname -m)),-mprefer-vector-width=512)
$(B)/train/%.o: private CFLAGS += -ffp-contract=fast -fno-math-errno -fno-trapping-math $(WIDE)
$(B)/eval/%.o $(B)/ops/score.o: private CFLAGS += -ffp-contract=fast -fno-math-errno -fno-trapping-math
# The loader's loops need selects instead of branches, and gain from the widest vectors;
# none of these flags changes a result.
$(B)/loader/%.o: private CFLAGS += -fno-math-errno -fno-trapping-math \
	$(if $(filter x86_64,$(shell uname -m)),-mprefer-vector-width=512)
# Pixels are for the model, like the numbers of train/.
# There is no NaN in them, so that a clamp may be two instructions.
$(addprefix $(B)/loader/,resize.o mix.o pixels.o worker.o): private CFLAGS += -ffp-contract=fast \
	-ffinite-math-only -fno-signed-zeros
CFLAGS  += -ffp-contract=off
LDLIBS  += $(PKG_LIBS) -ldnnl -lmodest -lm -lpthread -ldl
LDFLAGS += -fopenmp -Wl,--as-needed

ifeq ($(VARIANT),release)
CFLAGS += -O3
else ifeq ($(VARIANT),asan)
# gcc's flow warnings are known to err under the sanitizers; the release build has them all.
CFLAGS  += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=undefined -Wno-format-truncation -Wno-maybe-uninitialized
LDFLAGS += -fsanitize=address,undefined
else ifeq ($(VARIANT),tsan)
CFLAGS  += -O1 -fsanitize=thread -Wno-format-truncation -Wno-maybe-uninitialized
LDFLAGS += -fsanitize=thread
else ifeq ($(VARIANT),fuzz)
# clang for libFuzzer, with gcc's OpenMP, of whose headers only omp.h fits.
CC := clang
$(shell mkdir -p $(B)/include && sed 's/__malloc__ (omp_free), *//; s/, *__malloc__ (omp_free)//' \
	$$(gcc -print-file-name=include/omp.h) > $(B)/include/omp.h)
CFLAGS := $(filter-out -fopenmp -Werror,$(CFLAGS)) -O1 -Wno-everything \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined \
	-I$(B)/include
LDFLAGS := $(filter-out -fopenmp,$(LDFLAGS)) -fsanitize=fuzzer,address,undefined
LDLIBS  += -lgomp
# Kernels see no outside bytes, and their unrolled loops take minutes when instrumented.
$(B)/train/backend/%.o: private CFLAGS += -fno-sanitize=all -O0
else
$(error VARIANT is $(VARIANT); it must be release, asan, tsan or fuzz)
endif

# CUDA sources are compiled when there are some and nvcc is found.
CU_SRC := $(wildcard train/*/*.cu train/*/*/*.cu loader/*.cu)
NVCC   ?= $(firstword $(wildcard $(shell command -v nvcc) $(CUDA_HOME)/bin/nvcc /usr/local/cuda/bin/nvcc))
CUDA   := $(if $(CU_SRC),$(if $(NVCC),yes))
CUDA_NOTE := $(if $(CUDA),$(NVCC),$(if $(CU_SRC),nvcc is missing so it is left out,no sources))
ifeq ($(CUDA),yes)
CUDA_DIR := $(patsubst %/bin/,%,$(dir $(NVCC)))
$(B)/train/backend/backend.o: private CPPFLAGS += -DWL_HAVE_CUDA
NVFLAGS  ?= -O3 -std=c++17 -gencode arch=compute_80,code=sm_80 \
	-gencode arch=compute_90,code=[sm_90,compute_90]
# The runtime is small and linked in; cuBLAS is loaded when a GPU is used.
LDLIBS   += -Wl,--as-needed -L$(CUDA_DIR)/lib64 -lcudart_static -ldl -lrt -lpthread -lstdc++
endif

# A C++ compiler comes with gcc on most machines; only tests of GPU kernels want it.
CXX_FOUND := $(shell command -v $(CXX) 2>/dev/null)

src  = $(sort $(filter-out $(1)/main_%.c,$(wildcard $(1)/*.c $(1)/*/*.c $(1)/*/*/*.c)))
main = $(sort $(wildcard $(1)/main_*.c))
obj  = $(patsubst %.c,$(B)/%.o,$(1))
cuda = $(if $(CUDA),$(patsubst %.cu,$(B)/%.cu.o,$(filter $(1)/%,$(CU_SRC))))

ARCHIVES := $(foreach f,$(FOLDERS),$(if $(call src,$(f)),$(B)/libwl_$(f).a))
# Later folders use earlier ones: the linker wants them in the opposite order; the group is
# for the one exception, training that measures with eval/metrics.
LINK_ORDER := $(foreach f,eval train loader shards clean ingest ops,$(filter %/libwl_$(f).a,$(ARCHIVES)))
LINK := -Wl,--start-group $(LINK_ORDER) -Wl,--end-group
MAINS := $(foreach f,$(FOLDERS),$(call main,$(f)))
EXES  := $(foreach m,$(MAINS),$(B)/bin/wenlan-$(patsubst main_%.c,%,$(notdir $(m))))
TESTS := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/test_*.c)))
TEST_LIB := $(call obj,$(sort $(wildcard tests/support/*.c)))
# Programs that the end-to-end scripts, the benchmarks and the fuzzer use.
E2E   := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/e2e/*.c)))
BENCH := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/bench/*.c)))
FUZZ  := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
# Files that programs look up by these names, here or under PREFIX/share/wenlan.
SHARE := ops/fetch-weights.sh $(filter-out tests/% build/%,$(sort $(foreach e,yaml txt html css js,\
	$(wildcard */*/*.$(e) */*/*/*.$(e)))))

all: found $(EXES)

define archive_rule
$(B)/libwl_$(1).a: $(call obj,$(call src,$(1))) $(call cuda,$(1))
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(if $(call src,$(f)),$(eval $(call archive_rule,$(f)))))

define exe_rule
$(B)/bin/wenlan-$(patsubst main_%.c,%,$(notdir $(1))): $(call obj,$(1)) $(LINK_ORDER)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(LINK) $$(LDLIBS)
endef
$(foreach m,$(MAINS),$(eval $(call exe_rule,$(m))))

# Tests of operations: the GPU's kernels too, emulated (tests/support/emulated.h) or, under
# GPU_TESTS=1 (make test-gpu), on the GPU itself.  The sanitizers know nothing of fibers that jump,
# so of the emulation they see what has no kernels: streams, copies, exchanges.
OP_TESTS := $(addprefix $(B)/tests/,test_graph test_ops_image test_ops_text test_ops_update \
	test_pictures test_ops_loss test_fuse test_cuda_image test_pointwise test_gpu_train \
	test_gpu_step test_gpu_scale test_retrieval test_rank_ckpt)
# Those that touch the device's memory by the backend's functions alone; others want memory that both
# sides reach (WL_CUDA_MANAGED).
APART_TESTS := $(addprefix $(B)/tests/,test_gpu_train test_gpu_step test_gpu_scale test_retrieval \
	test_pictures test_rank_ckpt)
$(TESTS) $(B)/tests/e2e/crawl: LDLIBS := -lcmocka $(LDLIBS)
$(filter-out $(OP_TESTS),$(TESTS)) $(B)/tests/e2e/crawl: $(TEST_LIB)
ifeq ($(GPU_TESTS),1)
$(OP_TESTS): LDFLAGS += -Wl,-u,wl_backend_cuda_open
else ifneq ($(filter $(VARIANT)$(if $(CXX_FOUND),,-no),release asan tsan),)
EMULATED := $(patsubst %.cu,$(B)/emulated/%.o,$(wildcard tests/support/emulated*.cu) \
	$(filter-out %/nvidia.cu %/nvjpeg.cu %/cudnn.cu %/nccl_load.cu %/vmm.cu,\
	$(sort $(wildcard train/backend/cuda/*.cu))))
$(OP_TESTS): $(EMULATED)
$(OP_TESTS): LDLIBS := $(LDLIBS) -lstdc++
ifneq ($(VARIANT),release)
$(addprefix $(B)/emulated/,$(addprefix tests/support/emulated_,memory.o nccl.o runtime.o vmm.o) \
	$(addprefix train/backend/cuda/,fetch.o mail.o mapped.o nccl.o)): \
	private EMULATED_FLAGS := -g -fno-omit-frame-pointer \
	$(filter -fsanitize=% -fno-sanitize-recover=%,$(CFLAGS))
else
# The same kernels with every access checked (tests/support/racecheck.h); test_race checks the
# checker, by kernels with planted faults.
RACE_BASE := $(addprefix $(B)/race/tests/support/,$(addprefix emulated,.o _memory.o _runtime.o) \
	$(addprefix racecheck,.o _found.o _operation.o))
RACE := $(RACE_BASE) $(filter-out $(RACE_BASE),$(EMULATED:$(B)/emulated/%=$(B)/race/%))
RACE_TESTS := $(OP_TESTS:$(B)/tests/%=$(B)/race/%)
$(B)/race/train/%.o $(B)/race/tests/support/planted_races.o: private RACE_FLAGS := -O1 \
	-fsanitize=thread,alignment
$(B)/tests/test_race: LDLIBS := $(LDLIBS) -lstdc++
$(B)/tests/test_race: $(RACE_BASE) $(B)/race/tests/support/planted_races.o
$(RACE_TESTS): $(B)/race/%: $(B)/tests/%.o $(TEST_LIB) $(RACE) $(LINK_ORDER)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LINK) -lcmocka $(LDLIBS) -lstdc++
endif
endif
# An archive, of which a benchmark takes what it uses, and a test that a GPU's machine runs, which may
# lack the rest.
$(BENCH) $(OP_TESTS): SUPPORT := $(B)/libwl_support.a
$(BENCH) $(OP_TESTS): $(B)/libwl_support.a
$(B)/tests/bench/bench_copies: LDLIBS += -lcmocka
$(B)/libwl_support.a: $(TEST_LIB)
	$(Q)rm -f $@ && ar rcs $@ $^
$(TESTS) $(E2E) $(BENCH) $(FUZZ): %: %.o $(LINK_ORDER)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(SUPPORT) $(LINK) $(LDLIBS)

# What tests preload into the programs that they start, so as to meet them at a known moment.
$(B)/tests/test_dist $(B)/tests/test_train_run: $(B)/tests/halt.so
$(B)/tests/halt.so: tests/preload/halt.h tests/preload/fast_clock.h
$(B)/tests/%.so: tests/preload/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) -I. -D_GNU_SOURCE -std=c11 -O2 $(WARN) -shared -fPIC -o $@ $<

# The flags, so that a change of them rebuilds what was built with others.
$(B)/flags: force
	@mkdir -p $(@D)
	@echo '$(CC) $(CPPFLAGS) $(CFLAGS)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(CFLAGS)' > $@

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/emulated/%.o: %.cu $(B)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX     $< (emulated)")
	$(Q)$(CXX) -x c++ -std=c++17 -O2 $(EMULATED_FLAGS) -I. -Wall -Wextra -Werror \
		-include tests/support/emulated.h -MMD -MP -c -o $@ $<

$(B)/race/%.o: %.cu $(B)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX     $< (checked)")
	$(Q)$(CXX) -x c++ -std=c++17 -g -O2 $(RACE_FLAGS) -DWL_RACE -I. -Wall -Wextra -Werror \
		-include tests/support/emulated.h -MMD -MP -c -o $@ $<

$(B)/%.cu.o: %.cu $(B)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  NVCC    $<")
	$(Q)$(NVCC) $(CPPFLAGS) $(NVFLAGS) -MMD -MP -c -o $@ $<

found:
ifeq ($(HAVE),yes)
	@echo "  FOUND   $(words $(PKGS)) packages; CUDA: $(CUDA_NOTE); VARIANT=$(VARIANT) ARCH=$(ARCH)"
else
	@pkg-config --print-errors --exists $(PKGS); \
		echo "packages are missing: 'make setup' installs them on Debian; needed: $(PKGS)"; exit 1
endif

tests-build: $(TESTS)
e2e-build: $(E2E)

# --- what a person calls --------------------------------------------------------------
# The set-up may bring the compiler and pkg-config, so make starts anew after it.
SUB = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
RUN = WL_BIN=$(CURDIR)/$(B)/bin WL_BUILD=$(CURDIR)/$(B) bash

help:
	@sed -n 's/^#: //p' Makefile

#: make            build every program into build/release/bin
#: make setup      install what is missing from Debian's packages (root or sudo)
#: make demo       set up, build, and run the whole pipeline on real pictures; writes ./demo
#: make test       set up, build, run every test; closes with "N passed, N failed"
#: make test-asan  the same under the address and undefined-behaviour sanitizers
#: make test-tsan  and under the thread sanitizer
#: make test-long  fuzzing (FUZZ_SECONDS=30 a target), thread sanitizer, repeated kills
#: make fuzz        FUZZ="html warc" FUZZ_SECONDS=600: those targets only, so long each
#: make test-race  every access of the GPU's kernels checked, emulated: races, bounds, first reads
#: make test-gpu   the tests that need a GPU
#: make bench-gpu  the figures of a GPU; make gpu-pack: programs for a machine that has one
#: make bench      speed and memory against public tools, as ratios in one run
#: make lint       include direction, line lengths, cppcheck, clang-format
#: make install    PREFIX=/usr/local DESTDIR=   (and: uninstall)
#: make clean-build
#: Variables: V=1 (show commands)  VARIANT=release|asan|tsan|fuzz  ARCH=native  DEVELOPER=0|1
setup:
	@sh ops/setup.sh test

demo:
	@sh ops/setup.sh demo
	@$(SUB) all
	@$(B)/bin/wenlan-run ops/plans/demo.yaml

test:
	@sh ops/setup.sh test
	@$(SUB) all tests-build e2e-build
	@$(RUN) tests/run.sh $(TESTS) $(sort $(wildcard tests/e2e/*.sh))

test-asan:
	@sh ops/setup.sh test
	@$(SUB) VARIANT=asan all tests-build
	@$(MAKE) --no-print-directory VARIANT=asan test-programs

# LSan cannot see into threads that libgomp keeps, and cmocka's own death tests fork.
test-programs:
	@ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 $(RUN) tests/run.sh $(TESTS)

# OpenMP's threads come together in ways that the sanitizer does not see, so there is one; a disk
# of test_ckpt_crash's own is called before the sanitizer is there.
test-tsan:
	@sh ops/setup.sh test
	@$(SUB) VARIANT=tsan all tests-build
	@$(MAKE) --no-print-directory VARIANT=tsan test-threads
test-threads: $(B)/tests/c11_threads.so
	@TSAN_OPTIONS="ignore_noninstrumented_modules=1 suppressions=$(CURDIR)/tests/tsan.supp" \
		LD_PRELOAD=$(CURDIR)/$< OMP_THREAD_LIMIT=1 \
		$(RUN) tests/run.sh $(filter-out %/test_ckpt_crash,$(TESTS))

test-race:
	@$(SUB) $(RACE_TESTS)
	@$(RUN) tests/race.sh $(RACE_TESTS)

test-long:
	@sh ops/setup.sh test
	@$(SUB) all tests-build e2e-build
	@$(RUN) tests/long.sh

fuzz:
	@$(SUB) VARIANT=fuzz $(if $(FUZZ),$(FUZZ:%=build/fuzz/tests/fuzz/fuzz_%),fuzz-build)
	@sh tests/fuzz/run.sh $(or $(FUZZ_SECONDS),30) $(FUZZ)

test-gpu:
	@$(if $(shell command -v nvidia-smi),$(if $(CUDA),rm -f $(OP_TESTS) && \
		$(SUB) GPU_TESTS=1 all $(OP_TESTS) && \
		WL_CUDA_MANAGED=1 $(RUN) tests/run.sh $(filter-out $(APART_TESTS),$(OP_TESTS)) && \
		$(RUN) tests/run.sh $(APART_TESTS) && rm -f $(OP_TESTS),echo "SKIPPED: no nvcc"),\
		echo "SKIPPED: there is no GPU here (nvidia-smi is missing)")

# Programs whose CUDA backend is the GPU's own, for a machine with a GPU and little else, whose
# processor may be another.  Kernels are those of this build: nvcc does not know ARCH.
PORTABLE := B=build/portable ARCH=x86-64-v3 GPU_TESTS=1
gpu-pack:
	@$(SUB) $(foreach f,$(FOLDERS),$(call cuda,$(f)))
	@$(SUB) $(PORTABLE) build/portable/flags
	@cd $(B) && find . -name '*.cu.o' | xargs cp -u --parents -t ../portable
	@$(SUB) $(PORTABLE) gpu-programs
	@sh tests/gpu.sh pack
gpu-programs: $(OP_TESTS) $(B)/tests/bench/bench_gpu

bench-gpu:
	@$(SUB) all $(B)/tests/bench/bench_gpu
	@$(RUN) tests/bench/bench_gpu.sh

bench:
	@sh ops/setup.sh test
	@$(SUB) all bench-build
	@$(RUN) tests/bench/run.sh

bench-build: $(BENCH)
fuzz-build: $(FUZZ)

lint:
	@sh ops/lint.sh

install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install $(EXES) $(DESTDIR)$(PREFIX)/bin
	@for f in $(SHARE); do \
		install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/wenlan/$$f || exit 1; done
	@echo "  INSTALL $(words $(SHARE)) files into $(DESTDIR)$(PREFIX)/share/wenlan"

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(EXES)))
	rm -rf $(DESTDIR)$(PREFIX)/share/wenlan

clean-build:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all found tests-build e2e-build bench-build fuzz-build fuzz help setup demo test test-asan \
	test-programs test-tsan test-threads test-long test-race test-gpu gpu-pack gpu-programs \
	bench-gpu bench lint install uninstall clean-build force
.SECONDARY:
