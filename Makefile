# SPDX-License-Identifier: ISC
# Two commands do all the set-up, dependencies included:
#	make demo	builds Wherry and runs its main job
#	make test	runs every test that this machine can run
# Packagers use Meson directly: meson setup build && ninja -C build && meson install -C build
BUILD ?= build
PREFIX ?= /usr/local
# Warnings are errors with the compiler that developers use; a newer one may know more of them.
WERROR ?= $(shell gcc -dumpversion 2>/dev/null | grep -qx '12.*' && echo -Dwerror=true)

.PHONY: all deps demo test test-asan ports bench install format check clean
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

deps:
	tools/deps

$(BUILD)/build.ninja:
	tools/deps
	meson setup $(BUILD) --prefix $(PREFIX) $(WERROR)

demo: all
	tools/demo $(BUILD)

test: all
	tools/test $(BUILD)

test-asan:
	tools/deps
	[ -f $(BUILD)-asan/build.ninja ] || meson setup $(BUILD)-asan -Db_sanitize=address,undefined -Db_lundef=false -Dguest=false $(WERROR)
	ninja -C $(BUILD)-asan
	meson test -C $(BUILD)-asan --print-errorlogs

# Well-known programs as images: make ports, or make ports PORTS="redis nginx"
ports: all
	ports/build --wherry $(BUILD)/src/cli/wherry --out $(BUILD)/ports $(PORTS)

bench: all
	bench/run $(BUILD)

install: all
	meson install -C $(BUILD) --no-rebuild

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

check: all
	tools/check-format && tools/check-size

clean:
	rm -rf $(BUILD) $(BUILD)-asan
