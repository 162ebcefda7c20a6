#!/usr/bin/env python3
"""Compiles the kernels and commits to what came out.

    compile.py            writes images/: for each type of operands PTX (for cards that come later) and a cubin for each
                          architecture, packed by zlib; images.json, the hashes of sources and images; and ptxas.csv,
                          each kernel's registers, shared memory and spills
    compile.py --check    images.json belongs to the sources and the images, and ptxas.csv lists every kernel, none with
                          spills that are not explained here; with the wheels at hand also that compiling again gives
                          the same images and the same table

Wheels (PyPI; no driver and no card needed) are looked for in $ISOFLOP_CUDA_WHEELS, then where Python finds packages:

    pip install --target FOLDER nvidia-cuda-nvrtc-cu12==12.8.93 nvidia-cuda-nvcc-cu12==12.8.93

The version is pinned: drivers refuse PTX of a compiler newer than themselves.
"""

import argparse
import csv
import ctypes
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS, IMAGES = ROOT / "kernels", ROOT / "images"
SOURCES = [
    *("abi.h", "device.h", "embedding.cu", "gemm.cu", "layernorm.cu", "attention.cu", "sums.cu", "update.cu"),
    "conv.cu",
]
ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90"]
OPERANDS = ["f32", "bf16", "f16"]
OPTIONS = ["--std=c++17", "--gpu-architecture=compute_80"]
PACKAGES = {"nvidia-cuda-nvrtc-cu12": "12.8.93", "nvidia-cuda-nvcc-cu12": "12.8.93"}
# Kernels that may spill, each with its reason.
MAY_SPILL = {}
LARGEST_SHARED = 48 * 1024
NUMBERS = ["registers", "shared_bytes", "spill_stores_bytes", "spill_loads_bytes", "stack_bytes"]
HEADER = ["kernel", "architecture", *NUMBERS]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sources_hash():
    """Of all that decides what an image is."""
    parts = [f"{name} {sha256((KERNELS / name).read_bytes())}" for name in SOURCES]
    parts += [*OPTIONS, *ARCHITECTURES, *OPERANDS, *(f"{name} {version}" for name, version in PACKAGES.items())]
    return sha256("\n".join(parts).encode())


# ---- the compilers


def wheels():
    """NVRTC's library and ptxas, or nothing."""
    for place in filter(None, [os.environ.get("ISOFLOP_CUDA_WHEELS"), *sys.path]):
        nvidia = pathlib.Path(place) / "nvidia"
        library, ptxas = nvidia / "cuda_nvrtc/lib/libnvrtc.so.12", nvidia / "cuda_nvcc/bin/ptxas"
        if library.exists() and ptxas.exists():
            found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions(path=[str(place)])}
            for name, version in PACKAGES.items():
                if found.get(name) != version:
                    sys.exit(f"{place} has {name} {found.get(name)}, pinned is {version}")
            return library, ptxas
    return None


def compile_ptx(library, operands):
    """PTX of the kernels of one type of operands, as one program."""
    nvrtc = ctypes.CDLL(str(library))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = "".join(f'#include "{name}"\n' for name in SOURCES if name.endswith(".cu"))

    def call(name, *args):
        if code := getattr(nvrtc, name)(*args):
            sys.exit(f"{name}: error {code}")

    def text(kind):
        call(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        call(f"nvrtcGet{kind}", program, buffer)
        return buffer.value

    call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [*OPTIONS, f"--define-macro=ISOFLOP_{operands.upper()}", f"--include-path={KERNELS}"]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), array)
    log = text("ProgramLog").decode()
    if failed or log.strip():
        sys.exit(f"{operands}: {log}")
    return text("PTX")


INFO = re.compile(
    r"Compiling entry function '(\w+)' for '(sm_\d+)'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n.*?Used (\d+) registers([^\n]*)",
    re.S,
)


def assemble(ptxas, ptx, architecture):
    """A cubin, and a row of the table for each kernel."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder) / "kernels.ptx", pathlib.Path(folder) / "kernels.cubin"
        source.write_bytes(ptx)
        command = [str(ptxas), "-v", f"-arch={architecture}", str(source), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        rows = []
        for kernel, of, stack, stores, loads, registers, rest in INFO.findall(done.stderr):
            shared = re.search(r"(\d+) bytes smem", rest)
            numbers = [registers, shared[1] if shared else "0", stores, loads, stack]
            rows.append([kernel, of, *numbers])
        return out.read_bytes(), rows


def build(library, ptxas):
    """Every image by its name, and the table's rows."""
    images, rows = {}, {}
    for operands in OPERANDS:
        ptx = images[f"{operands}.ptx"] = compile_ptx(library, operands)
        for architecture in ARCHITECTURES:
            images[f"{operands}.{architecture}.cubin"], more = assemble(ptxas, ptx, architecture)
            for row in more:
                # Those that every image holds are the same in each.
                assert rows.setdefault((row[0], row[1]), row) == row, row
    return images, [rows[key] for key in sorted(rows)]


def table(rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    return text.getvalue()


# ---- what must hold


def listed_kernels():
    """The names that ISOFLOP_KERNELS of abi.h stands for."""
    text = (KERNELS / "abi.h").read_text().replace("\\\n", " ")
    macros = {m[1]: (m[2].split(", "), m[3]) for m in re.finditer(r"#define (ISOFLOP_\w+)\(([^)]*)\) (.*)", text)}

    def expand(body, values):
        for name, value in values.items():
            body = re.sub(rf"(##)?\b{name}\b(##)?", value, body)
        names = set()
        for name, args in re.findall(r"(\w+)\(([^()]*)\)", body):
            args = [arg.strip() for arg in args.split(",")]
            if name in macros:
                parameters, inner = macros[name]
                names |= expand(inner, dict(zip(parameters[1:], args[1:])))
            else:
                names.add(args[0])
        return names

    return expand(macros["ISOFLOP_KERNELS"][1], {})


def check_rows(rows):
    listed = listed_kernels()
    for architecture in ARCHITECTURES:
        found = {row[0] for row in rows if row[1] == architecture}
        if found != listed:
            sys.exit(f"{architecture}: not in both abi.h's list and the table: {sorted(found ^ listed)}")
    for kernel, architecture, registers, shared, stores, loads, _ in rows:
        if (int(stores) or int(loads)) and kernel not in MAY_SPILL:
            sys.exit(f"{kernel} spills on {architecture}: {stores} bytes stored, {loads} loaded, {registers} registers")
        if int(shared) > LARGEST_SHARED:
            sys.exit(f"{kernel} wants {shared} bytes of shared memory on {architecture}")


def check(tools):
    known = json.loads((IMAGES / "images.json").read_text())
    hint = "hint: run crates/cuda/tools/compile.py and commit images/"
    if known["sources"] != sources_hash():
        sys.exit(f"the kernels' sources are not those the images were compiled of\n{hint}")
    names = {path.name for path in IMAGES.iterdir()} - {"images.json"}
    if names != set(known["files"]):
        sys.exit(f"images/ and images.json name different files: {sorted(names ^ set(known['files']))}\n{hint}")
    for name, expected in known["files"].items():
        if sha256((IMAGES / name).read_bytes()) != expected:
            sys.exit(f"images/{name} is not what was compiled\n{hint}")
    text = (IMAGES / "ptxas.csv").read_text()
    check_rows(list(csv.reader(text.splitlines()))[1:])
    if not tools:
        print("images belong to the sources; without the compilers' wheels they were not compiled again")
        return
    images, rows = build(*tools)
    for name, image in images.items():
        if zlib.decompress((IMAGES / f"{name}.z").read_bytes()) != image:
            sys.exit(f"images/{name}.z is not what the sources compile to\n{hint}")
    if table(rows) != text:
        sys.exit(f"images/ptxas.csv is not what ptxas says now\n{hint}")
    print("images are what the sources compile to")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, say whether images belong to the sources")
    args = parser.parse_args()
    tools = wheels()
    if args.check:
        return check(tools)
    if not tools:
        sys.exit(__doc__)
    images, rows = build(*tools)
    check_rows(rows)
    IMAGES.mkdir(exist_ok=True)
    for old in IMAGES.iterdir():
        old.unlink()
    files = {f"{name}.z": zlib.compress(image, 9) for name, image in images.items()}
    files["ptxas.csv"] = table(rows).encode()
    for name, data in files.items():
        (IMAGES / name).write_bytes(data)
    hashes = {name: sha256(data) for name, data in files.items()}
    known = {"sources": sources_hash(), "compilers": PACKAGES, "files": hashes}
    (IMAGES / "images.json").write_text(json.dumps(known, indent=2) + "\n")
    print(f"{len(images)} images, {sum(map(len, files.values()))} bytes")


main()
