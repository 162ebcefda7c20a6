#!/usr/bin/env bash
# Builds the wheel: the program, its manual pages and completions, the reader, and the bill of materials.
#
#     python/wheel.sh [OUT] [maturin options]       # needs `pip install maturin`
#     python/wheel.sh dist --zig --compatibility manylinux_2_17     # and `pip install ziglang`
#
# The pages are made by the program itself, so it is built first. Unasked the wheel is for the glibc of this machine and
# later ones; Zig's linker has the symbols of older ones, and builds all of it a second time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
[ $# -gt 0 ] && shift

cargo build --locked --release -p isoflop
isoflop=${CARGO_TARGET_DIR:-target}/release/isoflop
share=python/isoflop.data/data/share
rm -rf python/isoflop.data
trap 'rm -rf python/isoflop.data python/isoflop.cdx.json' EXIT
mkdir -p "$share"/man/man1 "$share"/bash-completion/completions "$share"/zsh/site-functions \
    "$share"/fish/vendor_completions.d
"$isoflop" man --out "$share/man/man1"
"$isoflop" completions bash >"$share/bash-completion/completions/isoflop"
"$isoflop" completions zsh >"$share/zsh/site-functions/_isoflop"
"$isoflop" completions fish >"$share/fish/vendor_completions.d/isoflop.fish"

triple=$(rustc -vV | sed -n 's/^host: //p')
python3 tools/sbom.py --target "$triple" --with "rust-std=$(rustc -V | cut -d' ' -f2)=MIT OR Apache-2.0" \
    >python/isoflop.cdx.json

cd python
maturin build --release --locked --out "$out" "$@"
