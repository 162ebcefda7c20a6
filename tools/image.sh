#!/usr/bin/env bash
# An image from scratch: the program, statically linked, and nothing else that runs.
#
#     tools/image.sh [OUT.tar]                # isoflop-image.tar; `docker load` and `podman load` read it
#
# Needs Rust, a C compiler and the static glibc (Debian: libc6-dev has it), Python 3.9, and no container tool. The build
# has a target directory of its own (CARGO_TARGET_DIR or target, and static/ in it), as other flags would build the
# usual program anew. A static program loads no library: NVIDIA's is out of its reach, and cards are not metered.
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
static=${CARGO_TARGET_DIR:-target}/static
# A target that is named keeps the flags from build scripts and macros, which are loaded by the compiler.
CARGO_TARGET_DIR=$static RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static -C strip=symbols" \
    cargo build --locked --release -p isoflop --target "$triple"
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
revision=${REVISION:-$(git rev-parse --verify --quiet HEAD || true)}
python3 tools/oci.py "$static/$triple/release/isoflop" "$out" --version "$version" ${revision:+--revision "$revision"}
