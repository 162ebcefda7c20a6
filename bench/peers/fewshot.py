#!/usr/bin/env python3
"""Few-shot training steps and tests against PyTorch and easyfsl, on this machine, alternately.

    PYTHON=.venv/bin/python; $PYTHON bench/peers/fewshot.py [--isoflop target/release/isoflop] [--rounds 3]

Run it with a Python that has torch (and easyfsl, for the test on stored features). A training step is forward, backward
and SGD with Nesterov's momentum of one 5-way 5-shot 15-query episode. PyTorch's best of {f32, bf16 autocast} x {eager,
compiled} x {contiguous, channels-last} goes through the rounds A-B-A-B with ours. Prints a Markdown table.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "fixtures"))

CASES = {
    "conv4-28": (dict(network="conv4", image=28, channels=1), 3.0),
    "conv4-84": (dict(network="conv4", image=84, channels=3), 3.0),
    "resnet12-84": (dict(network="resnet12", image=84, channels=3), 2.0),
}
WAYS, SHOTS, QUERIES = 5, 5, 15


def torch_step(case, mode):
    """A function that makes one step, in a mode such as bf16-eager-last."""
    import torch
    from make_conv import Backbone

    precision, how, order = mode.split("-")
    torch.manual_seed(0)
    resnet = case["network"] == "resnet12"
    widths = [64, 128, 256, 512] if resnet else [64] * 4
    net = Backbone(channels=case["channels"], widths=widths, convs=3 if resnet else 1, shortcut=resnet,
                   slope=0.1 if resnet else 0.0, mean=resnet).train()
    images = torch.rand(WAYS * (SHOTS + QUERIES), case["channels"], case["image"], case["image"])
    if order == "last":
        net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    model = torch.compile(net) if how == "compiled" else net
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
    target = torch.arange(WAYS).repeat_interleave(QUERIES)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            f = model(images)
        f = f.float().reshape(WAYS, SHOTS + QUERIES, -1)
        prototypes, queries = f[:, :SHOTS].mean(1), f[:, SHOTS:].reshape(WAYS * QUERIES, -1)
        logits = -torch.cdist(queries, prototypes).square() / f.shape[-1]
        loss = torch.nn.functional.cross_entropy(logits, target)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        return float(loss.detach())

    return step


def serve(case, mode, seconds):
    """In a process of its own: times steps whenever a line comes, and says its peak memory."""
    step = torch_step(CASES[case][0], mode)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            step()
            count += 1
        rate = count / (time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(dict(rate=rate, peak=peak * 1024, step=(peak - before) * 1024)), flush=True)


class Torch:
    def __init__(self, case, mode, seconds):
        command = [sys.executable, __file__, "--serve", case, "--mode", mode, "--seconds", str(seconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{mode} did not start")

    def measure(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(isoflop, case, seconds, steps=3):
    command = [isoflop, "bench", "fewshot", "--json", "--steps", str(steps)]
    for key, value in CASES[case][0].items():
        command += [f"--{key}", str(value)]
    return json.loads(subprocess.check_output(command))


CLASSES, IMAGES = 20, 600


def easyfsl_whole(width, count=500):
    """Episodes a second of easyfsl's own way: its features' data set, sampler, loader and `evaluate`."""
    import torch
    from easyfsl.datasets import FeaturesDataset
    from easyfsl.methods import PrototypicalNetworks
    from easyfsl.utils import evaluate
    from easyfsl.samplers import TaskSampler

    # easyfsl 1.5 passes PyTorch's sampler an argument that newer PyTorch no longer takes.
    torch.utils.data.Sampler.__init__ = lambda self, data_source=None: None
    labels = torch.arange(CLASSES).repeat_interleave(IMAGES).tolist()
    features = FeaturesDataset(labels, torch.rand(CLASSES * IMAGES, width), [str(c) for c in range(CLASSES)])
    rates = []
    for _ in range(3):
        sampler = TaskSampler(features, WAYS, SHOTS, QUERIES, count)
        loader = torch.utils.data.DataLoader(
            features, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
        start = time.perf_counter()
        evaluate(PrototypicalNetworks(torch.nn.Identity()), loader, device="cpu", use_tqdm=False)
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


def easyfsl_bare(width):
    """The same of its classifier alone, on episodes that lie ready."""
    import torch
    from easyfsl.methods import PrototypicalNetworks

    features = torch.rand(64, WAYS, SHOTS + QUERIES, width)
    labels = torch.arange(WAYS).repeat_interleave(SHOTS)
    model, rates = PrototypicalNetworks(torch.nn.Identity()).eval(), []
    for _ in range(3):
        count, start = 0, time.perf_counter()
        with torch.no_grad():
            while time.perf_counter() - start < 1:
                f = features[count % 64]
                model.process_support_set(f[:, :SHOTS].reshape(-1, width), labels)
                model(f[:, SHOTS:].reshape(-1, width)).argmax(1)
                count += 1
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


def evaluation(isoflop):
    """10,000 episodes on stored features, 64 and 512 wide: drawn, gathered, judged."""
    print("\n| features | easyfsl's evaluate, episodes/s | its classifier alone | isoflop | ratio (bar 5) | to the classifier |")
    print("|---|---|---|---|---|---|")
    for width, network in [(64, ["--network", "conv4"]), (512, ["--network", "resnet12", "--image", "84"])]:
        whole, bare = easyfsl_whole(width), easyfsl_bare(width)
        command = [isoflop, "bench", "fewshot", "--json", "--evaluate", "10000", *network]
        mine = max(json.loads(subprocess.check_output(command))["episodes_per_s"] for _ in range(3))
        print(f"| {width} | {whole:,.0f} | {bare:,.0f} | {mine:,.0f} | {mine / whole:.1f} | {mine / bare:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isoflop", default=str(ROOT / "target/release/isoflop"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--compiled", action="store_true", help="torch.compile too: needs a C++ compiler, and minutes")
    parser.add_argument("--no-evaluation", action="store_true")
    parser.add_argument("--only-evaluation", action="store_true")
    parser.add_argument("--serve", choices=list(CASES))
    parser.add_argument("--mode")
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve, args.mode, args.seconds)
    if args.only_evaluation:
        return evaluation(args.isoflop)
    hows = ["eager", "compiled"] if args.compiled else ["eager"]
    modes = [f"{p}-{h}-{o}" for p in ("f32", "bf16") for h in hows for o in ("contiguous", "last")]
    print("| case | PyTorch's best, episodes/s | its mode | isoflop | ratio (bar) | share of peak | memory of PyTorch's |")
    print("|---|---|---|---|---|---|---|")
    for case in args.cases:
        found = {}
        for mode in modes:
            try:
                torch = Torch(case, mode, min(args.seconds, 2.0))
                found[mode] = torch.measure()["rate"]
                torch.close()
            except (RuntimeError, json.JSONDecodeError) as error:
                print(f"{case} {mode}: {error}", file=sys.stderr)
        best = max(found, key=found.get)
        print(f"{case}: {found}", file=sys.stderr)
        torch = Torch(case, best, args.seconds)
        first = ours(args.isoflop, case, args.seconds)
        steps = max(3, round(args.seconds * first["episodes_per_s"]))
        theirs, mine, memory = [], [], 0
        for turn in range(args.rounds):
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                if side == 0:
                    told = torch.measure()
                    theirs.append(told["rate"])
                    memory = told["step"]
                else:
                    sample = ours(args.isoflop, case, args.seconds, steps)
                    mine.append(sample["episodes_per_s"])
        torch.close()
        a, b = statistics.median(theirs), statistics.median(mine)
        bar = CASES[case][1]
        print(f"| {case} | {a:.2f} | {best} | {b:.2f} | {b / a:.2f} ({bar:.0f}) | {sample['share_of_peak']:.0%} "
              f"| {sample['peak_memory_bytes'] / memory:.0%} |", flush=True)
    if not args.no_evaluation:
        evaluation(args.isoflop)


if __name__ == "__main__":
    main()
