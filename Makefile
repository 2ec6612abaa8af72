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
Q       := $(if $(V),,@)

# Debian packages: what the build needs; ops/setup.sh installs those that are missing.
PKGS := sqlite3 jansson yaml-0.1 libarchive icu-uc icu-i18n libturbojpeg libjpeg libpng libwebp \
	libcrypto opencc zlib libcurl libdeflate
HAVE := $(shell pkg-config --exists $(PKGS) 2>/dev/null && echo yes)
PKG_CFLAGS := $(if $(HAVE),$(shell pkg-config --cflags $(PKGS)))
PKG_LIBS   := $(if $(HAVE),$(shell pkg-config --libs $(PKGS)))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wvla -Wundef \
	-Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Werror
CPPFLAGS += -I. -D_GNU_SOURCE -DWL_PREFIX='"$(PREFIX)"' $(PKG_CFLAGS)
CFLAGS  += -std=c11 -g $(WARN) -march=$(ARCH) -fopenmp -MMD -MP
# Data stages promise the same bits on every machine, so nothing is contracted to FMA
# there; the numeric kernels of train/ promise a tolerance and are.
$(B)/train/%.o: CFLAGS += -ffp-contract=fast -fno-math-errno -fno-trapping-math
# The loader's loops need selects instead of branches; neither flag changes a result.
$(B)/loader/%.o: CFLAGS += -fno-math-errno -fno-trapping-math
CFLAGS  += -ffp-contract=off
LDLIBS  += $(PKG_LIBS) -ldnnl -lm -lpthread -ldl
LDFLAGS += -fopenmp -Wl,--as-needed

ifeq ($(VARIANT),release)
CFLAGS += -O3
else ifeq ($(VARIANT),asan)
CFLAGS  += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined
else ifeq ($(VARIANT),tsan)
CFLAGS  += -O1 -fsanitize=thread
LDFLAGS += -fsanitize=thread
endif

src  = $(sort $(filter-out $(1)/main_%.c,$(wildcard $(1)/*.c $(1)/*/*.c $(1)/*/*/*.c)))
main = $(sort $(wildcard $(1)/main_*.c))
obj  = $(patsubst %.c,$(B)/%.o,$(1))

ARCHIVES := $(foreach f,$(FOLDERS),$(if $(call src,$(f)),$(B)/libwl_$(f).a))
# Later folders use earlier ones: the linker wants them in the opposite order.
LINK_ORDER := $(foreach f,eval train loader shards clean ingest ops,$(filter %/libwl_$(f).a,$(ARCHIVES)))
MAINS := $(foreach f,$(FOLDERS),$(call main,$(f)))
EXES  := $(foreach m,$(MAINS),$(B)/bin/wenlan-$(patsubst main_%.c,%,$(notdir $(m))))
TEST_SRC  := $(sort $(wildcard tests/test_*.c))
TESTS     := $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SRC))
TEST_LIB  := $(call obj,$(sort $(wildcard tests/support/*.c)))

all: $(EXES)

define archive_rule
$(B)/libwl_$(1).a: $(call obj,$(call src,$(1)))
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(if $(call src,$(f)),$(eval $(call archive_rule,$(f)))))

define exe_rule
$(B)/bin/wenlan-$(patsubst main_%.c,%,$(notdir $(1))): $(call obj,$(1)) $(LINK_ORDER)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(LINK_ORDER) $$(LDLIBS)
endef
$(foreach m,$(MAINS),$(eval $(call exe_rule,$(m))))

$(B)/tests/test_%: $(B)/tests/test_%.o $(TEST_LIB) $(LINK_ORDER)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LINK_ORDER) -lcmocka $(LDLIBS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

tests-build: $(TESTS)

clean-build:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all tests-build clean-build
.SECONDARY:
