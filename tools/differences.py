#!/usr/bin/env python3
"""Says how two files of the same name differ, down into archives:  tools/differences.py ONE OTHER [FOLDER …]

Zip, tar, gzip and what lies in them are compared member by member: names and their order, times and modes, bytes. Where
bytes differ it says where first, and which of the FOLDERs (those the two were built in) their texts name. Prints
nothing where there is no difference; leaves with 1 where there is one.
"""

import gzip
import io
import pathlib
import sys
import tarfile
import zipfile


def members(data):
    """(name, attributes, bytes or None for what has none) of an archive's members in order; None if it is none."""
    if data[:4] == b"PK\x03\x04":
        archive = zipfile.ZipFile(io.BytesIO(data))
        return [
            (i.filename, {"time": i.date_time, "mode": i.external_attr >> 16, "packing": i.compress_type},
             archive.read(i))
            for i in archive.infolist()
        ]
    if data[:2] == b"\x1f\x8b":
        time = int.from_bytes(data[4:8], "little")
        return [("(unpacked)", {"time": time, "header": data[2:4].hex() + data[8:10].hex()}, gzip.decompress(data))]
    if data[257:262] == b"ustar":
        archive = tarfile.open(fileobj=io.BytesIO(data))
        return [
            (i.name, {"time": i.mtime, "mode": i.mode, "owner": (i.uid, i.gid, i.uname, i.gname)},
             archive.extractfile(i).read() if i.isfile() else None)
            for i in archive
        ]
    return None


def differences(name, one, other, folders=()):
    """Lines that say how two byte strings differ."""
    if one == other:
        return []
    parts = members(one), members(other)
    if None in parts:
        at = next((i for i, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))
        count = sum(a != b for a, b in zip(one, other))
        line = f"{name}: {len(one)} and {len(other)} bytes, {count} differ, the first at {at}"
        named = [folder for folder in folders if folder.encode() in one or folder.encode() in other]
        return [line + (f"; it names the folder it was built in ({', '.join(named)})" if named else "")]
    lines, names = [], [[member[0] for member in part] for part in parts]
    if sorted(names[0]) != sorted(names[1]):
        apart = sorted(set(names[0]) ^ set(names[1]))
        lines.append(f"{name}: only one of them has {', '.join(apart)}")
    elif names[0] != names[1]:
        lines.append(f"{name}: the same members in another order")
    second = {member[0]: member for member in parts[1]}
    for inner, attributes, data in parts[0]:
        if inner not in second:
            continue
        _, attributes_2, data_2 = second[inner]
        for key, value in attributes.items():
            if value != attributes_2[key]:
                lines.append(f"{name}: {inner}: {key} {value} and {attributes_2[key]}")
        if data != data_2:
            lines += differences(f"{name}: {inner}", data or b"", data_2 or b"", folders)
    return lines or [f"{name}: the members are equal, their packing is not (another zlib, or another level)"]


def main(args):
    if len(args) < 2 or args[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    one, other = map(pathlib.Path, args[:2])
    lines = differences(one.name, one.read_bytes(), other.read_bytes(), args[2:])
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
