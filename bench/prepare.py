"""Prepares gigabytes made on the spot, whole and killed at random, and compares every byte.

    python3 bench/prepare.py                     # 2 GB; needs `cargo build --release`
    python3 bench/prepare.py --gigabytes 0.3 --kills 3 --dedup minhash

The input is made of the built-in books: documents of 1 to 40 lines from random places, as JSON Lines (plain, gzip),
CSV and plain text, one in twenty of them a copy of an earlier one, one in a thousand damaged. Prepared once from
beginning to end, with its peak memory and speed; then again, killed (SIGKILL) at random moments and given again until
it ends. Both must leave the same shards, lists and `prepared.json`. Standard library only, Linux.
"""

import argparse
import csv
import gzip
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def books():
    packed = ROOT / "crates/data/corpus/literature.txt.zst"
    try:
        from compression import zstd

        return zstd.decompress(packed.read_bytes()).decode()
    except ImportError:
        if not shutil.which("zstd"):
            sys.exit("needs Python 3.14, or the program zstd, to unpack the built-in books")
        return subprocess.run(["zstd", "-dc", packed], check=True, capture_output=True).stdout.decode()


def documents(size, seed):
    """Texts of about `size` bytes in all."""
    rng, lines, kept, made = random.Random(seed), books().splitlines(keepends=True), [], 0
    while made < size:
        if kept and rng.random() < 0.05:
            text = rng.choice(kept)
        else:
            at = rng.randrange(len(lines) - 40)
            text = "".join(lines[at : at + rng.randint(1, 40)]) + f"{rng.random()}"
            if len(kept) < 10_000:
                kept.append(text)
        made += len(text)
        yield text


def make(folder, size):
    folder.mkdir()
    with open(folder / "a.jsonl", "w") as out:
        for i, text in enumerate(documents(size * 0.5, 1)):
            out.write(("{broken\n" if i % 1000 == 999 else "") + json.dumps({"id": i, "text": text}) + "\n")
    with gzip.open(folder / "b.jsonl.gz", "wt", compresslevel=1) as out:
        for i, text in enumerate(documents(size * 0.2, 2)):
            out.write(json.dumps({"text": text, "id": i}) + "\n")
    with open(folder / "c.csv", "w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["id", "text"])
        rows.writerows([i, text] for i, text in enumerate(documents(size * 0.2, 3)))
    with open(folder / "d.txt", "w") as out:
        out.writelines(documents(size * 0.1, 4))


def command(args, source, out):
    words = [args.isoflop, "prepare", source, "--out", out, "--tokenizer", args.tokenizer]
    words += ["--dedup", args.dedup, "--checkpoint-every", "2s"]
    return [str(word) for word in words] + (["--threads", str(args.threads)] if args.threads else [])


def run(words):
    """Seconds and peak memory of a process that must succeed."""
    begun = time.monotonic()
    child = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, words
    return time.monotonic() - begun, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def hashes(folder):
    names = sorted(p for p in folder.iterdir() if p.name != ".lock")
    return {p.name: hashlib.file_digest(p.open("rb"), "sha256").hexdigest() for p in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--dedup", default="exact")
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--isoflop", type=pathlib.Path, default=ROOT / "target/release/isoflop")
    parser.add_argument("--folder", type=pathlib.Path, help="where the input is made, and kept")
    args = parser.parse_args()
    folder = args.folder or pathlib.Path(tempfile.mkdtemp(prefix="isoflop-prepare-"))
    source, whole, killed = folder / "in", folder / "whole", folder / "killed"
    if not source.exists():
        folder.mkdir(exist_ok=True)
        make(source, args.gigabytes * 1e9)
    on_disk = sum(p.stat().st_size for p in source.iterdir())
    for out in [whole, killed]:
        shutil.rmtree(out, ignore_errors=True)
    seconds, peak, cpu = run(command(args, source, whole))
    said = json.loads((whole / "prepared.json").read_text())
    text, tokens = said["counts"]["text_bytes"], said["train"]["tokens"] + said["val"]["tokens"]
    print(f"{on_disk / 1e9:.2f} GB on disk, {text / 1e9:.2f} GB of text, {said['counts']['documents']} documents")
    print(f"{said['counts']['removed']} removed ({args.dedup}), problems {said['counts']['problems']}, {tokens} tokens")
    print(f"whole: {seconds:.1f} s, {text / 1e6 / seconds:.0f} MB/s of text, {cpu:.1f} s of CPU, peak {peak / 1e6:.0f} MB")
    rng, kills, peaks = random.Random(time.time()), 0, []
    while kills < args.kills:
        child = subprocess.Popen(command(args, source, killed), stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.05, 0.6) * seconds)
        child.send_signal(signal.SIGKILL)
        if child.wait() != -signal.SIGKILL:
            shutil.rmtree(killed)
            continue
        kills += 1
    rest, peak, _ = run(command(args, source, killed))
    same = hashes(whole) == hashes(killed)
    print(f"killed {kills} times, then {rest:.1f} s to the end, peak {peak / 1e6:.0f} MB: ", end="")
    print("every byte the same" if same else "NOT THE SAME")
    if not args.folder:
        shutil.rmtree(folder)
    sys.exit(not same)


if __name__ == "__main__":
    main()
