#!/usr/bin/env python3
"""GPT-2's BPE beside tiktoken, Hugging Face `tokenizers` and gigatoken: the same ids, and how fast, in one run.

    bench/peers/tokenizers.py                       # identity, then speed; the table goes to target/peers/tokenizers.md
    bench/peers/tokenizers.py --identity            # ids alone
    bench/peers/tokenizers.py --text FILE ...       # other texts

Texts: the built-in corpus, at least 60 MB of technical text from Debian's documentation packages (downloaded once; HTML without its
tags, the code in it kept), and a torture file made on the spot. Everyone is given whole texts in memory; ours and gigatoken are
timed on one processor, tiktoken and `tokenizers` with all their threads over a batch of 1 MB parts. Rounds alternate; the table
has medians. Needs Linux with apt, cargo, and a Python of 3.11 or later.
"""
import argparse
import hashlib
import html
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import machine  # noqa: E402

PACKAGES = ["python3-doc", "perl-doc", "git-doc", "postgresql-doc", "exim4-doc-html", "openjdk-17-doc"]
LEAST_BYTES = 60_000_000
TAGS = re.compile(r"(?is)<(script|style|head)\b.*?</\1>|<!--.*?-->|<[^>]*>")


def technical_text(folder: pathlib.Path) -> pathlib.Path:
    """HTML stripped, plain text and POD as they are, of the packages and what they depend on for their pages."""
    text = folder / "technical.txt"
    if text.exists():
        return text
    folder.mkdir(parents=True, exist_ok=True)
    depends = subprocess.run(["apt-cache", "depends", *PACKAGES], capture_output=True, text=True, check=True).stdout
    names = {*re.findall(r"Depends: (\S*-doc(?:-\d+)?)$", depends, re.MULTILINE), *PACKAGES}
    subprocess.run(["apt-get", "download", "-qq", *sorted(names)], cwd=folder, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(f"dpkg-deb --fsys-tarfile '{package}' | tar x", shell=True, cwd=folder, check=True)
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".html", ".txt", ".pod") and path.is_file():
            part = path.read_text(encoding="utf-8", errors="ignore")
            parts.append(html.unescape(TAGS.sub("", part)) if path.suffix == ".html" else part)
    whole = "\n".join(parts)
    if len(whole.encode()) < LEAST_BYTES:
        sys.exit(f"only {len(whole.encode())} bytes of technical text\nhint: name other packages in PACKAGES")
    text.write_text(whole, encoding="utf-8", newline="")
    return text


def torture(folder: pathlib.Path) -> pathlib.Path:
    """What splitters and merges stumble over, and one line of 20 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "torture.txt"
    parts = ["👩‍👩‍👧‍👦🏳️‍🌈é́", "日本語の文章。" * 5000, "한국어 텍스트 " * 5000, "\u3000" * 5000, " " * 50_000, "\t\n " * 5000, "\r\n" * 5000,
             "".join(map(chr, range(0x20))) * 50, "".join(chr(c) for c in range(0x20, 0x3000) if not 0xd800 <= c < 0xe000), "^" * 50_000,
             "a" * 50_000, "don't DON'T it's ''s 's" * 1000, "0123456789" * 3000, "".join(f"{i} " for i in range(3_000_000))]
    text.write_text("\n".join(parts), encoding="utf-8", newline="")
    return text


CHILD = r'''
import base64, json, sys, time, os
kind, path, ranks_json, rounds = sys.argv[1:5]
text = open(path, encoding="utf-8", newline="").read()
size = len(text.encode())
def parts(step=1 << 20):
    at, found = 0, []
    while at < len(text):
        end = min(len(text), at + step)
        while end < len(text) and not (text[end] in " \n" and text[end - 1].isascii() and text[end - 1].isalpha()):
            end += 1
        found.append(text[at:end]); at = end
    return found
if kind == "gigatoken":
    import gigatoken
    tokenizer = gigatoken.Tokenizer.from_json(open(ranks_json, "rb").read())
    data = text.encode()
    encode = lambda: tokenizer.encode(data)
elif kind == "tokenizers":
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(ranks_json)
    batch = parts()
    encode = lambda: tokenizer.encode_batch_fast(batch, add_special_tokens=False)
else:
    import tiktoken
    document = json.load(open(ranks_json))
    # GPT-2's printable stand-ins for bytes.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    ranks = {bytes(byte_of[c] for c in s): i for s, i in document["model"]["vocab"].items() if s != "<|endoftext|>"}
    from tiktoken_ext.openai_public import r50k_pat_str
    encoding = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    batch = parts()
    encode = lambda: encoding.encode_ordinary_batch(batch, num_threads=os.cpu_count())
speeds = []
for _ in range(int(rounds)):
    start = time.perf_counter()
    ids = encode()
    speeds.append(size / (time.perf_counter() - start))
import hashlib, array
digest = hashlib.sha256()
if kind == "gigatoken":
    digest.update(ids.astype("<u4").tobytes())
else:
    for one in ids:
        digest.update(array.array("I", one.ids if kind == "tokenizers" else one).tobytes())
print(json.dumps({"bytes_per_s": speeds, "sha256": digest.hexdigest()}))
'''


def peer(python, kind, path, tokenizer_json, rounds, pinned):
    """One peer in a process of its own: its speeds and the hash of its ids."""
    command = [str(python), "-c", CHILD, kind, str(path), str(tokenizer_json), str(rounds)]
    run = subprocess.run(steady(command, pinned), capture_output=True, text=True)
    if run.returncode != 0:
        return {"bytes_per_s": [], "sha256": None, "failed": run.stderr.strip().splitlines()[-1:] or [f"signal {-run.returncode}"]}
    return json.loads(run.stdout)


def ours(isoflop, path, rounds):
    command = [str(isoflop), "--json", "tokenizer", "inspect", str(path), "--passes", str(rounds)]
    run = subprocess.run(steady(command, True), capture_output=True, text=True, check=True)
    ids = subprocess.run([str(isoflop), "tokenizer", "encode", str(path), "--format", "u32"], capture_output=True, check=True).stdout
    return {"bytes_per_s": json.loads(run.stdout)["text"]["bytes_per_s"], "sha256": hashlib.sha256(ids).hexdigest()}


def steady(command, pinned):
    """Ahead of other work where we may be, on one processor where that is what is measured."""
    first = ["chrt", "-f", "50"] if os.geteuid() == 0 else []
    return first + (["taskset", "-c", str(os.cpu_count() - 1)] if pinned else []) + command


def environment() -> pathlib.Path:
    requirements = HERE / "tokenizers.requirements.txt"
    key = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()[:12]
    venv = machine.CACHE / f"tokenizers-{key}"
    if not (venv / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(pip, check=True)
        (venv / "complete").touch()
    return venv / "bin/python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=pathlib.Path, nargs="+", help="other texts than the standard ones")
    parser.add_argument("--identity", action="store_true", help="compare ids, time nothing")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    python, isoflop = environment(), machine.build_isoflop()
    folder = machine.CACHE / "text"
    texts = args.text or [builtin(folder), technical_text(folder), torture(folder)]
    tokenizer_json = folder / "gpt2.json"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([isoflop, "tokenizer", "inspect", "--write", tokenizer_json], check=True)
    rounds = 1 if args.identity else args.rounds
    rows, wrong = [], []
    for path in texts:
        found = {"isoflop": ours(isoflop, path, rounds)}
        for kind in ("gigatoken", "tiktoken", "tokenizers"):
            found[kind] = peer(python, kind, path, tokenizer_json, rounds, pinned=kind == "gigatoken")
            sha256 = found[kind]["sha256"]
            if sha256 not in (None, found["isoflop"]["sha256"]):
                wrong.append(f"{path.name}: {kind} has other ids")
            print(path.name, kind, found[kind].get("failed") or sha256 == found["isoflop"]["sha256"], file=sys.stderr)
        rows.append((path, found))
    if not args.identity:
        print(table(rows))
        target = machine.ROOT / "target/peers"
        target.mkdir(parents=True, exist_ok=True)
        facts = {**machine.facts(), "texts": {path.name: found for path, found in rows}}
        (target / "tokenizers.json").write_text(json.dumps(facts, indent=1))
    sys.exit("\n".join(wrong) or None)


def builtin(folder: pathlib.Path) -> pathlib.Path:
    text = folder / "literature.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with open(text, "wb") as out:
        subprocess.run(["zstd", "-dcq", machine.ROOT / "crates/data/corpus/literature.txt.zst"], stdout=out, check=True)
    return text


def table(rows) -> str:
    """MB/s, and how many times ours is; `first` is with empty tables, the others with what the pass before left."""
    lines = ["| text | MB | isoflop, first | then | gigatoken, first | then | tiktoken | tokenizers | over tiktoken | over tokenizers |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for path, found in rows:
        first = {kind: of["bytes_per_s"][0] if of["bytes_per_s"] else None for kind, of in found.items()}
        then = {kind: statistics.median(of["bytes_per_s"][1:] or of["bytes_per_s"]) if of["bytes_per_s"] else None
                for kind, of in found.items()}
        mb = lambda speed: "fails" if speed is None else f"{speed / 1e6:.3g}"
        over = lambda kind: "–" if then[kind] is None else f"{then['isoflop'] / then[kind]:.0f}×"
        lines.append(f"| {path.name} | {path.stat().st_size / 1e6:.1f} | {mb(first['isoflop'])} | {mb(then['isoflop'])} "
                     f"| {mb(first['gigatoken'])} | {mb(then['gigatoken'])} | {mb(then['tiktoken'])} | {mb(then['tokenizers'])} "
                     f"| {over('tiktoken')} | {over('tokenizers')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
