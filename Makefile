# make demo    the whole road on this machine: ceremony, fleet, rollout, hot swap, a release that stops itself
# make test    every test
# make bench   figures against the machine's limit, appended to target/bench/results.jsonl
# make header  writes include/switchback.h anew from sdk/ffi
#
# A machine needs Rust, a C compiler and Python 3 with pip; a test that needs more (OpenSSL, SoftHSM 2) says what it leaves out.
# ONNX Runtime is fetched by version and hash, unless ORT_DYLIB_PATH names one.

CARGO ?= cargo

.PHONY: demo test bench header ort lint

# One set of words for every build, so that one set of features is unified and nothing is built twice.
BUILD = $(CARGO) build --workspace
BUILT = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/debug
PREFIX_HERE = $(CURDIR)/target/prefix

demo: ort
	$(BUILD)
	@$(MAKE) --no-print-directory -C sdk/ffi install PROFILE=dev PACKAGES=--workspace PREFIX=$(PREFIX_HERE)
	@$(MAKE) --no-print-directory -C examples/c-vehicle SWITCHBACK_PREFIX=$(PREFIX_HERE) OUT=$(BUILT)
	@ORT_DYLIB_PATH="$${ORT_DYLIB_PATH:-$(CURDIR)/target/onnxruntime/libonnxruntime.so.1}" $(BUILT)/switchback-demo

test: ort
	$(BUILD)
	$(CARGO) test --workspace --no-fail-fast

bench: ort
	$(CARGO) bench -p switchback-tests

header:
	SWITCHBACK_WRITE_HEADER=1 $(CARGO) test -q -p switchback-tests header

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

ort:
	@sdk/onnx/get-onnxruntime.sh
