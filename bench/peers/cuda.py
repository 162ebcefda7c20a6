#!/usr/bin/env python3
"""isoflop's training step against PyTorch's on this machine's graphics card, alternately.

    bench/peers/cuda.py                                  # the table: the demo's sizes and GPT-2 124 M
    bench/peers/cuda.py --shapes L12-d768 --rounds 7

Needs Linux, an NVIDIA card with its driver, cargo, and a Python with a PyTorch for CUDA; torch.compile wants a C++
compiler too. For each shape every mode of PyTorch ({bf16, fp16 with a loss scale} x {eager, compiled}, fused AdamW,
FlashAttention through scaled_dot_product_attention) is timed once, and the best goes through the rounds A-B-A-B with
both precisions of ours. Printed are the card, tokens/s, their ratio beside the bar, the share of the card's published
peak that the model's FLOPs (6N and attention) come to, and memory beside PyTorch's.

No figure of this script stands in this repository yet: it has not been run on a card.
"""
import argparse
import pathlib
import statistics
import sys

from compare import shape
from contestants import Ours, Refused, Server

HERE = pathlib.Path(__file__).resolve().parent


# Each with the bar it is held to: tokens/s over PyTorch's best. Small models are bound by launches, the large one by
# products.
SHAPES = {
    "L2-d32": (shape(2, 32, 2, 256, 256, 8), 5.0),
    "L3-d64": (shape(3, 64, 4, 256, 256, 8), 5.0),
    "L4-d128": (shape(4, 128, 4, 4096, 256, 16), 5.0),
    "L6-d256": (shape(6, 256, 8, 4096, 256, 16), 5.0),
    "L12-d768": (shape(12, 768, 12, 50257, 1024, 16), 1.0),
}
MODES = ("bf16-eager", "bf16-compiled", "fp16-eager", "fp16-compiled")
MEMORY_BAR = 0.70


def card() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none that PyTorch sees"


def torch_server(mode: str, dimensions: dict, device: str) -> Server:
    words = [word for key, value in dimensions.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "torch_step.py", *words, "--mode", mode, "--device", device, "--serve"]
    return Server(f"PyTorch {mode}", command, {})


def quickest(dimensions: dict, modes: list[str], device: str, seconds: float) -> tuple[Server, dict]:
    """PyTorch's best mode, still alive, and tokens/s of all."""
    found, best = {}, None
    for mode in modes:
        server = torch_server(mode, dimensions, device)
        try:
            server.start()
            found[mode] = server.sample(seconds)["tokens_per_s"]
        except Refused as why:
            print(f"{server.name}: {why}", file=sys.stderr)
            server.stop()
            continue
        if best is None or found[mode] == max(found.values()):
            if best:
                best.stop()
            best = server
        else:
            server.stop()
    if best is None:
        raise SystemExit("error: no mode of PyTorch ran\nhint: its own words stand above")
    return best, found


def compare(name: str, dimensions: dict, bar: float, args: argparse.Namespace) -> str:
    best, found = quickest(dimensions, args.modes, args.torch_device, args.seconds)
    print(f"{name}: " + ", ".join(f"{mode} {rate:,.0f}" for mode, rate in found.items()), file=sys.stderr)
    ours = [
        Ours(args.isoflop, dimensions, 1, ["--device", args.device, "--precision", precision], {})
        for precision in args.precisions
    ]
    samples = {contestant.name: [] for contestant in [best, *ours]}
    for contestant in ours:
        contestant.start()
    for _ in range(args.rounds):
        for contestant in [best, *ours]:
            samples[contestant.name].append(contestant.sample(args.seconds))
    best.stop()
    rate = {name: statistics.median(s["tokens_per_s"] for s in taken) for name, taken in samples.items()}
    theirs = samples[best.name][-1]["peak_resident_bytes"]
    rows = []
    for contestant, precision in zip(ours, args.precisions):
        last = samples[contestant.name][-1]
        ratio, share = rate[contestant.name] / rate[best.name], last.get("share_of_peak")
        memory = (last.get("planned_memory_bytes") or 0) / theirs if theirs else None
        cells = [
            name,
            f"{rate[best.name]:,.0f} ({best.ready['mode']})",
            precision,
            f"{rate[contestant.name]:,.0f}",
            f"{ratio:.2f} ({bar:g})",
            "unknown" if share is None else f"{share:.0%}",
            "unknown" if not memory else f"{memory:.0%} ({MEMORY_BAR:.0%})",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isoflop", type=pathlib.Path, default=HERE.parents[1] / "target/release/isoflop")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batch", type=int, help="sequences a step, for both; for toy runs under an emulated driver")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a sample")
    parser.add_argument("--device", default="cuda", help="ours: cuda, cuda:1")
    parser.add_argument("--torch-device", default="cuda")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--precisions", nargs="+", choices=("bf16", "fp16"), default=["bf16", "fp16"])
    args = parser.parse_args()
    print(f"Card: {card()}.\n")
    head = ["shape", "PyTorch's best, tokens/s", "ours in", "isoflop", "ratio (bar)", "share of peak", "memory of PyTorch's"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name in args.shapes:
        dimensions, bar = SHAPES[name]
        if args.batch:
            dimensions = {**dimensions, "batch": args.batch}
        print(compare(name, dimensions, bar, args), flush=True)


if __name__ == "__main__":
    main()
