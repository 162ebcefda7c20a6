#!/usr/bin/env python3
"""The same few-shot training in PyTorch: from the same initial weights, on the same episodes, to the same accuracy?

    PYTHON=.venv/bin/python; $PYTHON bench/peers/fewshot_parity.py [--width 64] [--episodes 200] [--test 2000] [--seeds 1 2 3]

Runs a study of the built-in icons (pre-training, then ProtoNet on episodes with a backbone that moves), then trains
ProtoNet again in PyTorch, from the checkpoint that pre-training left, and tests it, on episodes that are drawn here
anew by their published rule (`crates/data/src/episodes.rs`: a pure function of seed and number). Prints both mean
accuracies and their difference on identical test episodes with its interval of 95 %; exits with 1 if that interval
does not hold nothing.

Weights differ in their last digits after one step, for sums are taken in another order, and by more after each; what
must agree is what was learnt. How far apart the weights end is printed as a share of the way they went.

Needs torch, numpy and safetensors, and the command `zstd` for the embedded icons.
"""

import argparse
import csv
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "fixtures"))
from make_conv import Backbone  # noqa: E402

MASK = (1 << 64) - 1
STUDY = """
name = "parity"
kind = "fewshot"
methods = ["nearest-mean", "proto"]
seeds = {seeds}
[backbone]
width = {width}
[pretrain]
epochs = {epochs}
[episodes]
shots = [{shots}]
queries = 15
count = {episodes}
per_step = {per_step}
backbone = "trained"
optimizer = "{optimizer}"
lr = {lr}
[test]
episodes = {test}
[train]
precision = "{precision}"
eval_episodes = 4
eval_every = 1
"""


def mix(value):
    """SplitMix64's finaliser, as `crates/base/src/bits.rs` has it."""
    z = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Drawn:
    """Classes and images of episode `index`: the first steps of a shuffle by hashed numbers."""

    def __init__(self, classes, ways, each, seed):
        self.classes, self.ways, self.each, self.seed = classes, ways, each, seed

    def episode(self, index):
        key, drawn = mix(self.seed ^ mix((index + 0x9E3779B97F4A7C15) & MASK)), 0

        def choose(first, length, count):
            nonlocal drawn
            order, out = {}, []
            for i in range(count):
                drawn += 1
                other = i + ((mix(key ^ mix(drawn)) * (length - i)) >> 64)
                out.append(first + order.get(other, other))
                order[other] = order.get(i, i)
            return out

        classes = choose(0, len(self.classes), self.ways)
        return [choose(self.classes[c][0], self.classes[c][1], self.each) for c in classes]


def icons():
    """Pixels [n,1,28,28] from 0 to 1, and by split the first image and number of images of each class."""
    packed = ROOT / "crates/data/icons/icons.images.zst"
    data = subprocess.check_output(["zstd", "-dcq", str(packed)])
    assert data.startswith(b"isoflop images 1\n")
    length = int.from_bytes(data[17:25], "little")
    header = json.loads(data[25:25 + length])
    start = (25 + length + 63) // 64 * 64
    side = header["side"]
    pixels = np.frombuffer(data, np.uint8, offset=start).reshape(-1, 1, side, side)
    splits, first = {}, 0
    for split in header["splits"]:
        splits[split["name"]] = []
        for _, count in split["classes"]:
            splits[split["name"]].append((first, count))
            first += count
    assert first == len(pixels)
    return torch.from_numpy(pixels.astype(np.float32) / 255), splits


def base_order(classes):
    """The base images as a run numbers them: classes in order, the images of each in the order of a hash."""
    images, ranges = [], []
    for first, count in classes:
        ranges.append((len(images), count))
        images += sorted(range(first, first + count), key=lambda image: mix(image ^ 0x696D616765))
    return images, ranges


def logits(f, ways, shots, queries, temperature):
    """Minus squared distances of the queries to their episode's class means, features [B·N·(K+Q),d]."""
    f = f.reshape(-1, ways, shots + queries, f.shape[-1])
    means, asked = f[:, :, :shots].mean(2), f[:, :, shots:].reshape(f.shape[0], ways * queries, -1)
    return -(asked[:, :, None] - means[:, None]).square().sum(-1) / temperature


def run(isoflop, args, folder):
    (folder / "study.toml").write_text(STUDY.format(**vars(args)))
    subprocess.check_call([isoflop, "fewshot", "run", "study.toml"], cwd=folder, stderr=subprocess.DEVNULL)
    with open(folder / "parity/episodes.csv") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "episode"}


def weights(folder, name):
    (point,) = (folder / "runs" / name).glob("checkpoints/point-*")
    config = json.loads((point / "config.json").read_text())
    return load_file(point / "model.safetensors"), config["model"]


def backbone(width, tensors):
    net = Backbone(channels=1, widths=[width] * 4, convs=1, shortcut=False, slope=0.0, mean=False)
    own = {name: value for name, value in tensors.items() if name.startswith("layer")}
    missing, unexpected = net.load_state_dict(own, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing) and not unexpected
    return net


def train(net, pixels, classes, args, seed, temperature):
    ways, shots, queries = 5, args.shots, 15
    images, ranges = base_order(classes)
    images = torch.tensor(images)
    episodes = Drawn(ranges, ways, shots + queries, mix(seed ^ 0x65706973))
    if args.optimizer == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=0.0)
    steps, net = args.episodes // args.per_step, net.train()
    target = torch.arange(ways).repeat_interleave(queries).repeat(args.per_step)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        drawn = [episodes.episode(step * args.per_step + e) for e in range(args.per_step)]
        f = net(pixels[images[torch.tensor(drawn).flatten()]])
        loss = torch.nn.functional.cross_entropy(
            logits(f, ways, shots, queries, temperature).reshape(-1, ways), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return net.eval()


@torch.no_grad()
def test(net, pixels, classes, args, temperature):
    ways, shots, queries = 5, args.shots, 15
    first, end = classes[0][0], classes[-1][0] + classes[-1][1]
    f = torch.cat([net(part) for part in pixels[first:end].split(256)])
    episodes, right = Drawn(classes, ways, shots + queries, 0x74657374), []
    target = torch.arange(ways).repeat_interleave(queries)
    for index in range(args.test):
        drawn = torch.tensor(episodes.episode(index)).flatten() - first
        said = logits(f[drawn], ways, shots, queries, temperature)[0].argmax(1)
        right.append(float((said == target).float().mean()))
    return np.array(right)


def interval(values):
    return values.mean(), 1.96 * values.std(ddof=1) / len(values) ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isoflop", default=str(ROOT / "target/release/isoflop"))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=2, help="of pre-training, which both start from")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--per-step", type=int, default=4)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--test", type=int, default=2000, help="test episodes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--optimizer", choices=["adamw", "sgd"], default="adamw")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="ours; PyTorch's is f32")
    args = parser.parse_args()
    torch.manual_seed(0)
    pixels, splits = icons()
    differences, each = [], []
    print(f"| seed | start | isoflop | PyTorch {torch.__version__} | difference on the same {args.test} episodes | weights apart |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        told = run(pathlib.Path(args.isoflop).resolve(), args, folder)
        for seed in args.seeds:
            start, _ = weights(folder, f"parity-pretrain-w{args.width}-s{seed}")
            end, model = weights(folder, f"parity-proto-k{args.shots}-w{args.width}-s{seed}")
            temperature = model["learns"]["temperature"]
            net = backbone(args.width, start)
            # What both start from: the same features, so the same answers, but for ties and last digits.
            before = test(net.eval(), pixels, splits["test"], args, temperature)
            again = np.abs(before - told[f"nearest-mean-k{args.shots}-s{seed}"]).mean()
            assert again < 2e-4, f"the start itself differs by {again}: nothing after it can be compared"
            net = train(net, pixels, splits["train"], args, seed, temperature)
            theirs = test(net, pixels, splits["test"], args, temperature)
            ours = told[f"proto-k{args.shots}-s{seed}"]
            apart, size = 0.0, 0.0
            for name, value in net.named_parameters():
                apart += float((value.detach() - end[name]).square().sum())
                size += float((end[name] - start[name]).square().sum())
            by, half = interval(ours - theirs)
            differences.append(ours - theirs)
            each.append(by)
            print(f"| {seed} | {100 * before.mean():.2f} % | {100 * ours.mean():.2f} % | {100 * theirs.mean():.2f} % "
                  f"| {100 * by:+.3f} ± {100 * half:.3f} points | {(apart / size) ** 0.5:.2%} of the way |", flush=True)
    by, half = interval(np.mean(differences, axis=0))
    if len(each) > 1:
        # Student's t over seeds, the wider of the two: how much rounding alone moves a training is in it.
        t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}.get(len(each), 2.0)
        half = max(half, t * np.std(each, ddof=1) / len(each) ** 0.5)
    print(f"| all | | | | {100 * by:+.3f} ± {100 * half:.3f} points | |")
    print("they agree" if abs(by) <= half else "they differ")
    return int(abs(by) > half)


if __name__ == "__main__":
    sys.exit(main())
