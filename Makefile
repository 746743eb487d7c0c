# Two commands do all the set-up: `make demo` and `make test`. Packagers use Meson directly.
BUILD ?= build

.PHONY: all
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)
