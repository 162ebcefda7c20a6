#!/usr/bin/env python3
"""Writes what the program is made of, as CycloneDX 1.5 JSON:

    tools/sbom.py [--target x86_64-unknown-linux-gnu] [--package isoflop] [--static glibc=2.36=LGPL-2.1-or-later]

Read from `cargo metadata --locked` and from Cargo.lock; needs nothing but Python 3.11 and cargo. Components with the
scope `required` are linked into the program; those `excluded` run while it is built (build scripts, macros, and what
these use) and are not in it. Each has the checksum that Cargo.lock has. SQLite, which a crate brings as C source, is a
component of its own; `--static NAME=VERSION=LICENCE` names others, such as the C library of a static program.

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


def metadata(target):
    """What cargo resolved for one target, features of the workspace as they are built."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    command += ["--filter-platform", target] if target else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cargo metadata: {done.stderr.strip()}")
    return json.loads(done.stdout)


def edges(node, kinds):
    """Ids a node of the graph depends on by one of `kinds` (None is a normal dependency, "build", "dev")."""
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] in kinds for kind in dep["dep_kinds"])]


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def reach(graph, packages, root):
    """(linked, built): ids that are linked into `root`, and those that only run while it is built."""
    linked, waiting = set(), [root]
    while waiting:
        id_ = waiting.pop()
        if id_ not in linked and not is_macro(packages[id_]):
            linked.add(id_)
            waiting += edges(graph[id_], {None})
    built, waiting = set(), [root]
    while waiting:
        id_ = waiting.pop()
        if id_ not in built:
            built.add(id_)
            waiting += edges(graph[id_], {None, "build"})
    return linked, built - linked


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


def document(target=None, package="isoflop", static=()):
    """The bill as a dictionary; the same tree gives the same one."""
    found = metadata(target)
    lock_bytes = (ROOT / "Cargo.lock").read_bytes()
    sums = checksums(tomllib.loads(lock_bytes.decode()))
    packages = {p["id"]: p for p in found["packages"]}
    graph = {node["id"]: node for node in found["resolve"]["nodes"]}
    roots = [p["id"] for p in found["packages"] if p["name"] == package and p["id"] in found["workspace_members"]]
    if not roots:
        raise SystemExit(f"the workspace has no package {package}")
    root = roots[0]
    linked, built = reach(graph, packages, root)
    sqlite_from, sqlite_part = sqlite(packages, linked)
    more = [generic(*part) for part in static]

    order = sorted((linked | built) - {root}, key=lambda id_: (packages[id_]["name"], packages[id_]["version"]))
    components = [component(packages[id_], id_ in linked, sums) for id_ in order]
    components += [sqlite_part] if sqlite_part else []
    components += more
    dependencies = []
    for id_ in [root, *order]:
        on = {purl(packages[other]) for other in edges(graph[id_], {None, "build"})}
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
    name = json.dumps([purl(packages[root]), target, list(static), hashlib.sha256(lock_bytes).hexdigest()])
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
    parser.add_argument("--static", action="append", default=[], metavar="NAME=VERSION=LICENCE")
    args = parser.parse_args()
    static = [tuple(part.split("=")) for part in args.static]
    if any(len(part) != 3 for part in static):
        parser.error("--static wants NAME=VERSION=LICENCE")
    json.dump(document(args.target, args.package, static), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
