#!/usr/bin/env bash
# Fuzzes one target for some seconds with libFuzzer: ./run.sh manifest 600
# The stable compiler does it too, once it is told to allow the coverage pass.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 seconds=$2
work=$(cd ../../.. && pwd)/target/fuzz
export CARGO_TARGET_DIR=$work/build RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions"
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --target "$host" --bin "$target"
mkdir -p "$work/$target"
exec "$work/build/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$work/" "$work/$target" "corpus/$target"
