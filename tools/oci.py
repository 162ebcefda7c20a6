#!/usr/bin/env python3
"""Makes an image of one statically linked program, from scratch and without a container tool:

    tools/oci.py PROGRAM isoflop-image.tar --version 0.1.0 [--revision COMMIT]

The archive is an OCI layout with the index that `docker load` reads too (`podman load`, `skopeo copy oci-archive:…`).
In it are the program, its licences, a user without rights and empty directories: no shell, no library. The bytes are
a function of the program, of this file and of SOURCE_DATE_EPOCH (0 where it is not set).
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import struct
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
USER = 1000
#: ELF's number of a processor → its name among images.
PROCESSORS = {62: "amd64", 183: "arm64"}
PT_INTERP = 3


def processor(program):
    """The processor a program is for; refuses one that needs a loader, as there is none in the image."""
    if program[:4] != b"\x7fELF" or program[4:6] != b"\x02\x01":
        raise SystemExit("the program is no 64-bit little-endian ELF file")
    (machine,) = struct.unpack_from("<H", program, 18)
    (at,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    if any(struct.unpack_from("<I", program, at + i * size)[0] == PT_INTERP for i in range(count)):
        raise SystemExit(
            "the program is linked dynamically and would not start in an image from scratch\n"
            "hint: tools/image.sh builds one that is not"
        )
    if machine not in PROCESSORS:
        raise SystemExit(f"the program is for processor {machine} of ELF's list, which no image is made for")
    return PROCESSORS[machine]


def layer(program, time):
    """The image's files as a tar archive with names in order and one time."""
    passwd = f"root:x:0:0::/:/\nisoflop:x:{USER}:{USER}::/home/isoflop:/\n".encode()
    group = f"root:x:0:\nisoflop:x:{USER}:\n".encode()
    doc = "usr/share/doc/isoflop"
    files = [  # path, mode, owner, contents (None: a directory)
        ("etc", 0o755, 0, None),
        ("etc/group", 0o644, 0, group),
        ("etc/passwd", 0o644, 0, passwd),
        ("home", 0o755, 0, None),
        ("home/isoflop", 0o755, USER, None),
        ("tmp", 0o1777, 0, None),
        ("usr", 0o755, 0, None),
        ("usr/local", 0o755, 0, None),
        ("usr/local/bin", 0o755, 0, None),
        ("usr/local/bin/isoflop", 0o755, 0, program),
        ("usr/share", 0o755, 0, None),
        ("usr/share/doc", 0o755, 0, None),
        (doc, 0o755, 0, None),
        (f"{doc}/LICENSE-APACHE", 0o644, 0, (ROOT / "LICENSE-APACHE").read_bytes()),
        (f"{doc}/LICENSE-MIT", 0o644, 0, (ROOT / "LICENSE-MIT").read_bytes()),
        ("work", 0o755, USER, None),
    ]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, mode, owner, contents in files:
            entry = tarfile.TarInfo(path)
            entry.mode, entry.uid, entry.gid, entry.mtime = mode, owner, owner, time
            entry.type = tarfile.DIRTYPE if contents is None else tarfile.REGTYPE
            entry.size = len(contents or b"")
            tar.addfile(entry, io.BytesIO(contents or b""))
    return out.getvalue()


def compress(data):
    """gzip's bytes; `gzip.compress` writes another header in some versions of Python."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed:
        packed.write(data)
    return out.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def text(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def image(program, version, revision=None, time=0):
    """The files of the layout, by name."""
    blobs = {}

    def blob(data, kind):
        blobs[f"blobs/sha256/{sha256(data)}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{sha256(data)}", "size": len(data)}

    created = datetime.datetime.fromtimestamp(time, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    files = layer(program, time)
    labels = {
        "org.opencontainers.image.title": "isoflop",
        "org.opencontainers.image.description": "A scaling-law laboratory in one binary",
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        "org.opencontainers.image.version": version,
        **({"org.opencontainers.image.revision": revision} if revision else {}),
    }
    config = {
        "created": created,
        "architecture": processor(program),
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Env": ["PATH=/usr/local/bin", "HOME=/home/isoflop"],
            "Entrypoint": ["/usr/local/bin/isoflop"],
            "Cmd": ["--help"],
            "WorkingDir": "/work",
            "Volumes": {"/work": {}},
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(files)}"]},
        "history": [{"created": created, "created_by": "tools/oci.py"}],
    }
    packed = blob(compress(files), "layer.v1.tar+gzip")
    settings = blob(text(config), "config.v1+json")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": settings, "layers": [packed]}
    named = {**blob(text(manifest), "manifest.v1+json"), "annotations": {"org.opencontainers.image.ref.name": version}}
    path = lambda part: "blobs/sha256/" + part["digest"].removeprefix("sha256:")  # noqa: E731
    docker = [{"Config": path(settings), "RepoTags": [f"isoflop:{version}"], "Layers": [path(packed)]}]
    return {
        "oci-layout": text({"imageLayoutVersion": "1.0.0"}),
        "index.json": text({"schemaVersion": 2, "manifests": [named]}),
        "manifest.json": text(docker),
        **blobs,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--revision")
    args = parser.parse_args()
    time = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    files = image(args.program.read_bytes(), args.version, args.revision, time)
    with tarfile.open(args.out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime, entry.size = 0o644, time, len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
