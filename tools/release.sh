#!/usr/bin/env bash
# Everything a release is made of, from a commit, the same bytes each time:
#
#     tools/release.sh [--tag vX.Y.Z] [--out DIR] [--only PARTS] [--manylinux 2_17] [--twice]
#
# PARTS of the release, with commas: source, wheel, image, sbom, notes; all of them unless said. Without --tag it is
# the checked-out commit and the notes are the changelog's open section. What is built is what is committed, in a fresh
# folder that is removed afterwards; SOURCE_DATE_EPOCH is the commit's time, and no folder of this machine is named in
# what is built. --manylinux makes the wheel for that glibc and later ones, by Zig's linker (pip install ziglang), else it
# is for this machine's and later. --twice builds everything in two folders, compares each file and says how any differ.
#
# Needs git, cargo, Python 3.11, for the wheel maturin; the image is left out, and that is said, where glibc's static
# library is not there (Debian: libc6-dev). The compiler, glibc and maturin are not pinned by the commit: the same bytes
# need the same of these, which BUILT-WITH names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repository=$PWD

fail() { # words, hint
    printf 'release: %s\nhint: %s\n' "$1" "$2" >&2
    exit 2
}
usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

all=source,wheel,image,sbom,notes
tag='' out=dist only=$all manylinux='' twice=''
while [ $# -gt 0 ]; do
    case $1 in
    --twice) twice=yes ;;
    --tag | --out | --only | --manylinux)
        [ $# -gt 1 ] || fail "$1 wants a value" "tools/release.sh --help"
        case $1 in --tag) tag=$2 ;; --out) out=$2 ;; --only) only=$2 ;; --manylinux) manylinux=$2 ;; esac
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) fail "there is no option $1" "tools/release.sh --help" ;;
    esac
    shift
done
for part in ${only//,/ }; do
    case ,$all, in *,"$part",*) ;; *) fail "a release has no part $part" "it has $all" ;; esac
done
case $manylinux in
'' | 2_[0-9] | 2_[0-9][0-9]) ;;
*) fail "--manylinux $manylinux is no glibc" "2_17 is the oldest that Rust serves; 2_28 that of many wheels" ;;
esac
wanted() { case ,$only, in *,"$1",*) true ;; *) false ;; esac; }

git rev-parse --git-dir >/dev/null 2>&1 || fail "this is no git checkout" "a release is made from a commit"
commit=$(git rev-parse --verify --quiet "${tag:-HEAD}^{commit}") || fail "there is no tag $tag" "git tag lists them"
version=$(git show "$commit:Cargo.toml" | sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p')
if [ -n "$tag" ] && [ "$tag" != "v$version" ]; then
    fail "the tag is $tag and Cargo.toml of it says $version" "they must agree: v$version"
fi
if [ -z "$tag" ] && [ -n "$(git status --porcelain)" ]; then
    echo "release: what is not committed is not in it" >&2
fi
if wanted wheel && ! command -v maturin >/dev/null; then
    fail "maturin is not on the PATH" "pip install maturin, or --only source,image,sbom,notes"
fi
if [ -n "$manylinux" ] && wanted wheel && ! { command -v zig || python3 -m ziglang version; } >/dev/null 2>&1; then
    fail "--manylinux needs Zig's linker" "pip install ziglang, into the Python that comes first on the PATH"
fi
triple=$(rustc -vV | sed -n 's/^host: //p')
static=''
case $triple in *-linux-gnu) if [ -e "$(cc -print-file-name=libc.a)" ]; then static=yes; fi ;; esac

# Nothing of the surroundings but the tools.
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET CARGO_INCREMENTAL
export LC_ALL=C TZ=UTC CARGO_TERM_COLOR=never PYTHONDONTWRITEBYTECODE=1 REVISION=$commit
SOURCE_DATE_EPOCH=$(git show --no-patch --format=%ct "$commit")
export SOURCE_DATE_EPOCH
umask 022

# Makes all that was asked for.   make FOLDER OUT
make() {
    local folder=$1 out=$2 name=isoflop-$version
    local source=$folder/$name target=$folder/target sysroot hash
    mkdir -p "$source" "$out"
    git -C "$repository" archive --format=tar "$commit" | tar -xf - -C "$source"
    sysroot=$(rustc --print sysroot)
    hash=$(rustc -vV | sed -n 's/^commit-hash: //p')
    local home=${CARGO_HOME:-$HOME/.cargo}
    local RUSTFLAGS CFLAGS CARGO_TARGET_DIR=$target
    RUSTFLAGS="--remap-path-prefix=$home=/cargo --remap-path-prefix=$target=/target"
    RUSTFLAGS+=" --remap-path-prefix=$source=/isoflop"
    RUSTFLAGS+=" --remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$hash"
    CFLAGS="-ffile-prefix-map=$home=/cargo -ffile-prefix-map=$target=/target"
    export RUSTFLAGS CFLAGS CARGO_TARGET_DIR

    if wanted source; then
        git -C "$repository" archive --format=tar --prefix="$name/" "$commit" | gzip -n -9 >"$out/$name.tar.gz"
    fi
    if wanted notes; then
        python3 "$source/tools/changelog.py" "${tag:-unreleased}" "$source/CHANGELOG.md" >"$out/NOTES.md"
    fi
    local std
    std="rust-std=$(rustc -V | cut -d' ' -f2)=MIT OR Apache-2.0"
    if wanted sbom; then
        python3 "$source/tools/sbom.py" --target "$triple" --with "$std" >"$out/$name.cdx.json"
    fi
    if wanted wheel; then
        "$source/python/wheel.sh" "$out" ${manylinux:+--zig --compatibility "manylinux_$manylinux"}
    fi
    if wanted image; then
        if [ -n "$static" ]; then
            "$source/tools/image.sh" "$out/$name-${triple%%-*}-image.tar"
            if wanted sbom; then
                python3 "$source/tools/sbom.py" --target "$triple" --with "$std" \
                    --with "$(getconf GNU_LIBC_VERSION | tr ' ' =)=LGPL-2.1-or-later" >"$out/$name-image.cdx.json"
            fi
        else
            echo "release: no image: it is built on Linux with glibc's static library (Debian: libc6-dev)" >&2
        fi
    fi
    {
        rustc -V
        cargo -V
        cc --version | head -n 1
        getconf GNU_LIBC_VERSION 2>/dev/null || true
        if wanted wheel; then maturin --version; fi
        if wanted wheel && [ -n "$manylinux" ]; then
            echo "zig $(zig version 2>/dev/null || python3 -m ziglang version)"
        fi
        python3 -c 'import zlib; print("zlib", zlib.ZLIB_RUNTIME_VERSION)'
        echo "commit $commit"
    } >"$out/BUILT-WITH"
    (cd "$out" && sha256sum -- $(ls | grep -v '^SHA256SUMS$') >SHA256SUMS)
}

work=$(mktemp -d "${TMPDIR:-/tmp}/isoflop-release.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
if [ -n "$(ls -A "$out")" ]; then
    fail "$out is not empty" "a release's folder has what its SHA256SUMS says and nothing else; give another with --out"
fi
out=$(cd "$out" && pwd)
(make "$work/one" "$out")
if [ -n "$twice" ]; then
    # A name of another length: what holds a path would differ in more than its letters.
    second=$work/another-folder
    (make "$second" "$work/again")
    differ=0
    for file in $(ls "$out" "$work/again" | grep -v ':$' | sort -u); do
        if [ ! -e "$out/$file" ] || [ ! -e "$work/again/$file" ]; then
            echo "$file: only made once"
            differ=1
        elif cmp -s "$out/$file" "$work/again/$file"; then
            echo "$file: the same bytes twice"
        else
            python3 tools/differences.py "$out/$file" "$work/again/$file" "$work/one" "$second" || true
            differ=1
        fi
    done
    if [ "$differ" = 1 ]; then
        echo "release: two builds differ" >&2
        exit 1
    fi
fi
cat "$out/SHA256SUMS"
