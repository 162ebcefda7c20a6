#!/usr/bin/env python3
"""Writes what the program is made of, as CycloneDX 1.5 JSON:

    tools/sbom.py [--target x86_64-unknown-linux-gnu] [--package isoflop] [--with glibc=2.36=LGPL-2.1-or-later]

Read from `cargo metadata` and `cargo tree`, both `--locked`, and from Cargo.lock; needs nothing but Python 3.11 and
cargo. Components with the scope `required` are linked into the program; those `excluded` run while it is built (build
scripts, macros, and what these use) and are not in it. Each has the checksum that Cargo.lock has. SQLite, which a crate
brings as C source, is a component of its own; `--with NAME=VERSION=LICENCE` names others, such as the C library of a
static program.

The document is a function of the tree and of SOURCE_DATE_EPOCH: without it there is no time in it.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]


def cargo(*args):
    """What cargo prints; it fails rather than change Cargo.lock."""
    done = subprocess.run(["cargo", *args, "--locked"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cargo {args[0]}: {done.stderr.strip()}")
    return done.stdout


def reached(package, target, kinds):
    """(name, version) of every crate that the package reaches by edges of these kinds.

    By `cargo tree`, as the graph of `cargo metadata` has optional crates that a build leaves out.
    """
    lines = cargo("tree", "--package", package, "--target", target or "all", "--edges", kinds, "--prefix", "none",
                  "--format", "{p}").splitlines()
    return {(words[0], words[1].removeprefix("v")) for words in map(str.split, lines) if words}


def edges(node):
    """Ids a node of the graph depends on when it is built, tests aside."""
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]


def checksums(lock):
    """(name, version) → SHA-256 of the crate's archive; the workspace's own crates have none."""
    return {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}


def licence(package):
    """CycloneDX wants an SPDX expression; some crates still write `MIT/Apache-2.0`."""
    return re.sub(r"\s*/\s*", " OR ", package["license"]) if package["license"] else None


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, linked, sums):
    found = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if linked else "excluded",
    }
    if checksum := sums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if expression := licence(package):
        found["licenses"] = [{"expression": expression}]
    found["purl"] = purl(package)
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def generic(name, version, expression):
    ref = f"pkg:generic/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": ref,
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{"expression": expression}],
        "purl": ref,
    }


def sqlite(packages, linked):
    """(id of the crate that brings SQLite's source, its component), if one does."""
    for id_ in linked:
        if packages[id_]["name"] == "libsqlite3-sys":
            header = pathlib.Path(packages[id_]["manifest_path"]).parent / "sqlite3" / "sqlite3.h"
            version = re.search(r'^#define SQLITE_VERSION +"([\d.]+)"', header.read_text(), re.MULTILINE)
            return id_, generic("sqlite", version[1], "blessing")
    return None, None


def document(target=None, package="isoflop", others=()):
    """The bill as a dictionary; the same tree gives the same one."""
    filtered = ["--filter-platform", target] if target else []
    found = json.loads(cargo("metadata", "--format-version", "1", *filtered))
    lock_bytes = (ROOT / "Cargo.lock").read_bytes()
    sums = checksums(tomllib.loads(lock_bytes.decode()))
    packages = {p["id"]: p for p in found["packages"]}
    graph = {node["id"]: node for node in found["resolve"]["nodes"]}
    root = next((id_ for id_ in found["workspace_members"] if packages[id_]["name"] == package), None)
    if root is None:
        raise SystemExit(f"the workspace has no package {package}")
    ids = {(p["name"], p["version"]): id_ for id_, p in packages.items()}
    linked = {ids[key] for key in reached(package, target, "normal,no-proc-macro")}
    built = {ids[key] for key in reached(package, target, "normal,build")} - linked
    sqlite_from, sqlite_part = sqlite(packages, linked)
    more = [generic(*part) for part in others]

    order = sorted((linked | built) - {root}, key=lambda id_: (packages[id_]["name"], packages[id_]["version"]))
    components = [component(packages[id_], id_ in linked, sums) for id_ in order]
    components += [sqlite_part] if sqlite_part else []
    components += more
    dependencies = []
    for id_ in [root, *order]:
        on = {purl(packages[other]) for other in edges(graph[id_]) if other in linked | built}
        on |= {sqlite_part["bom-ref"]} if id_ == sqlite_from else set()
        on |= {part["bom-ref"] for part in more} if id_ == root else set()
        dependencies.append({"ref": purl(packages[id_]), "dependsOn": sorted(on)})

    about = component(packages[root], True, sums)
    del about["scope"]
    about["type"] = "application"
    described = {"component": about}
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        time = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        described = {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), **described}
    if target:
        described["properties"] = [{"name": "cargo:target", "value": target}]
    name = json.dumps([purl(packages[root]), target, list(others), hashlib.sha256(lock_bytes).hexdigest()])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "version": 1,
        "metadata": described,
        "components": components,
        "dependencies": dependencies,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="the platform; without it crates of every platform are listed")
    parser.add_argument("--package", default="isoflop")
    parser.add_argument("--with", action="append", default=[], dest="others", metavar="NAME=VERSION=LICENCE")
    args = parser.parse_args()
    others = [tuple(part.split("=")) for part in args.others]
    if any(len(part) != 3 for part in others):
        parser.error("--with wants NAME=VERSION=LICENCE")
    json.dump(document(args.target, args.package, others), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
