#!/bin/sh
# Makes icons.images.zst and CREDITS.md again, byte for byte. Needs npm, zstd and a network; `isoflop` itself needs none.
# Usage: build.sh [FOLDER]    FOLDER (default icons-build) receives the package, icons.images{,.zst} and CREDITS.md
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
work=${1:-icons-build}
mkdir -p "$work"
cd "$work"
npm pack --silent @iconify/json@2.2.535
"${ISOFLOP:-$root/target/release/isoflop}" fewshot prepare-icons iconify-json-2.2.535.tgz --out .
zstd -19 --quiet --force icons.images -o icons.images.zst
sha256sum icons.images icons.images.zst
