#!/usr/bin/env bash
# An image from scratch: the program, statically linked, and nothing else that runs.
#
#     tools/image.sh [OUT.tar]                # isoflop-image.tar; `docker load` and `podman load` read it
#
# Needs Rust, a C compiler, the static glibc (Debian: libc6-dev has it) and Python 3.9, but no container tool. The crates
# are those of the usual program: only its last one is compiled and linked again. A static program loads no library:
# NVIDIA's is out of its reach, cards are neither metered nor computed on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1-} in
-*)
    sed -n '2,/^set/{/^#/p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
out=${1:-isoflop-image.tar}

triple=$(rustc -vV | sed -n 's/^host: //p')
case $triple in
*-linux-gnu) ;;
*)
    echo "this image is built on Linux with glibc; here is $triple" >&2
    exit 2
    ;;
esac
program=$(mktemp)
trap 'rm -f "$program"' EXIT
built=${CARGO_TARGET_DIR:-target}/release/isoflop
cargo rustc --locked --release -p isoflop --bin isoflop -- -C target-feature=+crt-static -C strip=symbols
cp "$built" "$program"
# The usual program again under its name; nothing of it is compiled where it was there before.
cargo build --locked --release -p isoflop
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
revision=${REVISION:-$(git rev-parse --verify --quiet HEAD || true)}
python3 tools/oci.py "$program" "$out" --version "$version" ${revision:+--revision "$revision"}
