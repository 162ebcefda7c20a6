#!/usr/bin/env python3
"""isoflop's training step against PyTorch's (and candle's and burn's), on this machine, alternately.

    bench/peers/compare.py                             # the table: seven shapes, five rounds each
    bench/peers/compare.py --shapes L4-d128 --rounds 7
    bench/peers/compare.py --isa avx512                # f32 on the vector unit alone, both sides; or avx2
    bench/peers/compare.py --odd                       # odd dimensions beside round ones
    bench/peers/compare.py --curve                     # ours alone, 10 k to 124 M parameters
    bench/peers/compare.py --rust-peers --shapes L4-d128

For each shape every mode of PyTorch ({f32, bf16 autocast} x {eager, compiled}) is timed twice (once where a step is long), and the best goes through
the rounds A-B-A-B with ours. A sample during which others took more than 3 % of the machine is thrown away and taken again.
Results go to target/peers/KIND/SHAPE.json and, of all shapes there, to target/peers/KIND.md; `--into-readme` puts that table between
its marks in bench/README.md. Needs Linux, cargo, a C++ compiler for torch.compile, and a Python of 3.11 or later.
"""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import sys
import time

import machine
import table
from contestants import Ours, Refused, Server


def shape(layers, width, heads, vocab, context, batch):
    return dict(layers=layers, width=width, heads=heads, vocab=vocab, context=context, batch=batch)


# Each with the bar it is held to: tokens/s over PyTorch's best.
SHAPES = {
    "demo-L2-d32": (shape(2, 32, 2, 256, 256, 8), 10.0),
    "demo-L3-d64": (shape(3, 64, 4, 256, 256, 8), 8.0),
    "demo-L4-d112": (shape(4, 112, 7, 256, 256, 8), 8.0),
    "L4-d128": (shape(4, 128, 4, 4096, 256, 16), 6.0),
    "L6-d256": (shape(6, 256, 8, 4096, 256, 16), 5.0),
    "L8-d512": (shape(8, 512, 8, 4096, 256, 8), 3.0),
    "L12-d768": (shape(12, 768, 12, 50257, 1024, 4), 2.5),
}
SMALL = list(SHAPES)[:5]
ISA_SHAPES = ["L4-d128", "L6-d256", "L8-d512"]
ISA_BARS = {"avx512": 1.3, "avx2": 1.2}
# Neighbours differ in one thing each, so that a cliff shows.
ODD = {
    "odd-d160": (shape(4, 160, 5, 5003, 384, 7), None),
    "odd-d128": (shape(4, 128, 4, 5003, 384, 7), None),
    "odd-d192": (shape(4, 192, 6, 5003, 384, 7), None),
    "odd-vocab-5120": (shape(4, 160, 5, 5120, 384, 7), None),
    "odd-batch-8": (shape(4, 160, 5, 5003, 384, 8), None),
    "odd-batch-1": (shape(4, 160, 5, 5003, 384, 1), None),
    "odd-batch-2": (shape(4, 160, 5, 5003, 384, 2), None),
    "odd-batch-3": (shape(4, 160, 5, 5003, 384, 3), None),
    "odd-context-256": (shape(4, 160, 5, 5003, 256, 7), None),
}
CURVE = {
    "curve-L1-d32": (shape(1, 32, 2, 256, 256, 8), None),
    "curve-L2-d32": (shape(2, 32, 2, 256, 256, 8), None),
    "curve-L3-d48": (shape(3, 48, 3, 256, 256, 8), None),
    "curve-L3-d64": (shape(3, 64, 4, 256, 256, 8), None),
    "curve-L4-d112": (shape(4, 112, 7, 256, 256, 8), None),
    "curve-L4-d128": (shape(4, 128, 4, 4096, 256, 16), None),
    "curve-L6-d192": (shape(6, 192, 3, 4096, 256, 16), None),
    "curve-L6-d256": (shape(6, 256, 8, 4096, 256, 16), None),
    "curve-L8-d384": (shape(8, 384, 6, 4096, 256, 16), None),
    "curve-L8-d512": (shape(8, 512, 8, 4096, 256, 8), None),
    "curve-L12-d512": (shape(12, 512, 8, 4096, 256, 8), None),
    "curve-L12-d768": (shape(12, 768, 12, 50257, 1024, 4), None),
}
MODES = ["f32-eager", "f32-compiled", "bf16-eager", "bf16-compiled"]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Comparison:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.isoflop = args.isoflop or machine.build_isoflop()
        self.python = self.rust_peers = None
        if not args.ours_only:
            if args.python:
                machine.check_environment(args.python)
            self.python = args.python or machine.environment()
        if args.rust_peers:
            self.rust_peers = machine.build_rust_peers()
        self.env_ours = {"ISOFLOP_KERNELS": args.isa} if args.isa else {}
        self.env_torch = {"TORCHINDUCTOR_CACHE_DIR": str(machine.CACHE / "inductor")}
        if args.isa == "avx2":
            self.env_torch |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        self.env_torch |= dict(pair.split("=", 1) for pair in args.torch_env)
        self.mkl = machine.mkl_kernels(self.python, self.env_torch) if self.python else None

    def ours(self, dimensions: dict) -> list[Ours]:
        """What of ours is tried; the fastest goes through the rounds."""
        args = self.args
        if args.ours_args is not None:
            tried = [shlex.split(args.ours_args)]
        elif args.isa:
            tried = [["--precision", "f32"]]
        else:
            tried = [["--precision", "bf16"], ["--precision", "f32"]]
        return [Ours(self.isoflop, dimensions, args.threads, words, self.env_ours) for words in tried]

    def torch(self, dimensions: dict) -> list[Server]:
        if self.python is None:
            return []
        modes = [m for m in MODES if not self.args.isa or m.startswith("f32")]
        words = [word for key, value in dimensions.items() for word in (f"--{key}", str(value))]
        words += ["--threads", str(self.args.threads), "--serve"]
        if self.args.isa == "avx2":
            words += ["--simdlen", "256"]
        command = [str(self.python), str(machine.HERE / "torch_step.py"), *words]
        return [Server(f"PyTorch {mode}", [*command, "--mode", mode], self.env_torch) for mode in modes]

    def rust(self, name: str, dimensions: dict) -> list[Server]:
        if self.rust_peers is None or name not in self.args.rust_shapes:
            return []
        words = [word for key, value in dimensions.items() for word in (f"--{key}", str(value))]
        env = {"RAYON_NUM_THREADS": str(self.args.threads)}
        return [Server(library, [str(self.rust_peers), library, *words], env) for library in ("candle", "burn")]

    def sample(self, contestant) -> tuple[dict | None, list[dict]]:
        """One sample in quiet, and those thrown away before it."""
        thrown = []
        for _ in range(1 + self.args.retries):
            time.sleep(0.3)
            sample = contestant.sample(self.args.budget)
            if sample["foreign"] <= self.args.max_foreign / 100:
                return sample, thrown
            thrown.append(sample)
            say(f"    {contestant.name}: others took {100 * sample['foreign']:.0f} % of the machine, again")
            time.sleep(2.0)
        return None, thrown

    def pick(self, contestants: list) -> tuple[object | None, list[dict]]:
        """The fastest of several ways to run one program, and what each of them did."""
        best, best_speed, tried = None, 0.0, []
        for contestant in contestants:
            entry = {"name": contestant.name}
            try:
                entry["ready"] = contestant.start()
                twice = contestant.step_s <= self.args.budget
                taken = [self.sample(contestant) for _ in range(2 if twice else 1)]
                quiet = [sample for sample, _ in taken if sample]
                sample = max(quiet or sum((thrown for _, thrown in taken), []), key=lambda s: s["tokens_per_s"])
                entry |= {"sample": sample, "quiet": bool(quiet)}
                say(f"    {contestant.name}: {sample['tokens_per_s']:.0f} tokens/s")
                if sample["tokens_per_s"] > best_speed:
                    best, best_speed = contestant, sample["tokens_per_s"]
            except Refused as refused:
                entry["refused"] = str(refused)
                say(f"    {contestant.name}: {refused}")
            finally:
                contestant.stop()
            tried.append(entry)
        return best, tried

    def rounds(self, field: list, count: int) -> dict:
        """`count` rounds, each contestant once in each, in turn. What fails is left out of the rest."""
        samples = {c.name: [] for c in field}
        thrown = {c.name: 0 for c in field}
        refused = {}
        try:
            for contestant in field:
                try:
                    contestant.start()
                except Refused as reason:
                    refused[contestant.name] = str(reason)
            for i in range(count):
                for contestant in field:
                    if contestant.name in refused:
                        continue
                    try:
                        sample, away = self.sample(contestant)
                    except Refused as reason:
                        refused[contestant.name] = str(reason)
                        continue
                    samples[contestant.name].append(sample)
                    thrown[contestant.name] += len(away)
                line = ", ".join(f"{name} {s[-1]['tokens_per_s']:.0f}" if s and s[-1] else f"{name} -" for name, s in samples.items())
                say(f"    round {i + 1}: {line}")
        finally:
            for contestant in field:
                contestant.stop()
        return {"samples": samples, "thrown_away": thrown, "refused": refused}

    def compare(self, name: str, dimensions: dict, bar: float | None) -> dict:
        start = time.monotonic()
        count = self.args.rounds or (3 if dimensions["width"] >= 768 else 5)
        say(f"{name}: {dimensions}")
        ours, tried_ours = self.pick(self.ours(dimensions))
        theirs, tried_torch = self.pick(self.torch(dimensions))
        rust = self.rust(name, dimensions)
        field = [c for c in (ours, theirs, *rust) if c is not None]
        result = self.rounds(field, count)
        return {
            "name": name,
            "kind": self.args.kind,
            "shape": dimensions,
            "bar": bar,
            "rounds": count,
            "threads": self.args.threads,
            "budget_s": self.args.budget,
            "max_foreign_percent": self.args.max_foreign,
            "machine": machine.facts() | ({"commit": "unknown: a binary given by hand"} if self.args.isoflop else {}),
            "isoflop": machine.output(str(self.isoflop), "--version"),
            "env": {"ours": self.env_ours, "torch": {k: v for k, v in self.env_torch.items() if k != "TORCHINDUCTOR_CACHE_DIR"}},
            "ours": ours.name if ours else None,
            "torch": theirs.name if theirs else None,
            "rust": [c.name for c in rust],
            "versions": {c.name: c.ready.get("versions") for c in field if isinstance(c, Server) and hasattr(c, "ready")},
            "mkl_kernels": self.mkl,
            "tried": tried_ours + tried_torch,
            **result,
            "summary": summarise(result, field, ours, theirs, bar),
            "took_s": time.monotonic() - start,
        }


def spread(values: list[float]) -> dict | None:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "count": len(values)} if values else None


def summarise(result: dict, field: list, ours, theirs, bar: float | None) -> dict:
    """Medians and spreads over the quiet samples, ours over each other in the same round, and shares of the peak."""
    samples = result["samples"]
    entries = {}
    for contestant in field:
        quiet = [s for s in samples[contestant.name] if s]
        entries[contestant.name] = {
            "tokens_per_s": spread([s["tokens_per_s"] for s in quiet]),
            "peak_bytes": max((s["peak_bytes"] for s in quiet if s["peak_bytes"]), default=None),
            "grown_bytes": max((s["grown_bytes"] for s in quiet if s["grown_bytes"] is not None), default=None),
        }
    summary = {"entries": entries}
    quiet_ours = [s for s in samples[ours.name] if s] if ours else []
    if not quiet_ours:
        return summary
    first = quiet_ours[0]
    peak = statistics.median(s["peak_flops_per_s"] for s in quiet_ours)
    per_token = first["flops_per_s"] / first["tokens_per_s"]
    summary |= {
        "kernels": first["kernels"],
        "precision": first["precision"],
        "params": first["params"],
        "flops_per_token": per_token,
        "peak_flops_per_s": peak,
    }
    for entry in entries.values():
        if entry["tokens_per_s"]:
            entry["share_of_peak"] = entry["tokens_per_s"]["median"] * per_token / peak
    mine = entries[ours.name]
    for contestant in field:
        their = entries[contestant.name]
        if contestant is ours or not their["tokens_per_s"]:
            continue
        pairs = zip(samples[ours.name], samples[contestant.name])
        paired = spread([a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs if a and b])
        their["ours_over_it"] = {"of_medians": mine["tokens_per_s"]["median"] / their["tokens_per_s"]["median"], "by_round": paired}
        for key in ("peak_bytes", "grown_bytes"):
            if mine[key] and their[key]:
                their[f"ours_over_its_{key}"] = mine[key] / their[key]
    if theirs and bar and (over := entries[theirs.name].get("ours_over_it")):
        summary["bar_met"] = over["of_medians"] >= bar
    return summary


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", metavar="NAME", default=["all"], help=f"small, all, or some of {', '.join(SHAPES)}")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--isa", choices=ISA_BARS, help="f32 on these vector instructions, both sides")
    kinds.add_argument("--odd", action="store_true", help="odd dimensions and their neighbours")
    kinds.add_argument("--curve", action="store_true", help="ours alone: share of the peak against the number of parameters")
    parser.add_argument("--rounds", type=int, help="[default: 5, and 3 for the largest]")
    parser.add_argument("--budget", type=float, default=2.0, metavar="SECONDS", help="length of a sample, at least one step [default: 2]")
    parser.add_argument("--max-foreign", type=float, default=3.0, metavar="PERCENT", help="more load by others spoils a sample [default: 3]")
    parser.add_argument("--retries", type=int, default=10, help="times a spoilt sample is taken again [default: 10]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="[default: usable cores]")
    parser.add_argument("--ours-args", metavar="WORDS", help="arguments of `isoflop bench train` [default: the faster of --precision bf16 and f32]")
    parser.add_argument("--ours-only", action="store_true", help="no PyTorch")
    parser.add_argument("--rust-peers", action="store_true", help="candle and burn as well, which are built first")
    parser.add_argument("--rust-shapes", nargs="+", default=["L4-d128"], metavar="NAME", help="where they take part [default: L4-d128]")
    parser.add_argument("--torch-env", action="append", default=[], metavar="NAME=VALUE", help="environment of PyTorch, such as LD_PRELOAD=…")
    parser.add_argument("--isoflop", type=lambda p: pathlib.Path(p).resolve(strict=True), help="a binary, rather than building one")
    parser.add_argument("--python", type=lambda p: pathlib.Path(p).absolute(), help="one that has the pinned PyTorch, rather than a new environment")
    parser.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "target" / "peers", help="[default: target/peers]")
    parser.add_argument("--into-readme", action="store_true", help="put the table into bench/README.md")
    parser.add_argument("--table-only", action="store_true", help="measure nothing: the table of the results that are there")
    args = parser.parse_args()
    args.kind = args.isa or ("odd" if args.odd else "curve" if args.curve else "step")
    args.ours_only |= args.curve
    if any("=" not in pair for pair in args.torch_env):
        parser.error("--torch-env takes NAME=VALUE")
    return args


def chosen(args: argparse.Namespace) -> dict:
    """The shapes to run, each with its bar."""
    known = {"odd": ODD, "curve": CURVE}.get(args.kind, SHAPES)
    if args.isa:
        known = {name: (dimensions, ISA_BARS[args.isa]) for name, (dimensions, _) in SHAPES.items()}
    default = ISA_SHAPES if args.isa else list(known)
    names = []
    for word in args.shapes:
        names += default if word == "all" else SMALL if word == "small" else [word]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no such shape: {', '.join(unknown)}\nhint: small, all, or some of {', '.join(known)}")
    return {name: known[name] for name in names}


def main() -> None:
    args = arguments()
    folder = args.out / args.kind
    folder.mkdir(parents=True, exist_ok=True)
    if not args.table_only:
        comparison = Comparison(args)
        for name, (dimensions, bar) in chosen(args).items():
            result = comparison.compare(name, dimensions, bar)
            (folder / f"{name}.json").write_text(json.dumps(result, indent=1))
            say(f"    took {result['took_s']:.0f} s")
    order = [*SHAPES, *ODD, *CURVE]
    files = sorted(folder.glob("*.json"), key=lambda path: order.index(path.stem) if path.stem in order else len(order))
    text = table.markdown(args.kind, [json.loads(path.read_text()) for path in files])
    (args.out / f"{args.kind}.md").write_text(text)
    print(text)
    if args.into_readme:
        table.put_into(machine.ROOT / "bench" / "README.md", args.kind, text)


if __name__ == "__main__":
    main()
