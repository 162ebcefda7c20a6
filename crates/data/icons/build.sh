#!/bin/sh
# Makes icons.images.zst and CREDITS.md again, byte for byte. Needs npm, node and zstd, and a network.
# Usage: build.sh [FOLDER]    FOLDER (default icons-build) receives the packages and icons.images{,.zst}
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-icons-build}
mkdir -p "$work"
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix . @iconify/json@2.2.535 @resvg/resvg-js@2.6.2
node "$here/build.mjs" . icons.images CREDITS.md
zstd -19 --quiet --force icons.images -o icons.images.zst
sha256sum icons.images icons.images.zst
