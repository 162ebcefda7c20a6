#!/usr/bin/env python3
"""One whole training step of a GPT-2 in PyTorch, on the CPU or a graphics card, timed.

Forward, backward, `clip_grad_norm_` at 1, AdamW, `zero_grad(set_to_none=True)`; pre-norm blocks with a fused qkv
projection, `scaled_dot_product_attention`, GELU (tanh), learned positions, a tied head. Written to be PyTorch's best:
fused AdamW, no dropout, no data loader (the tokens are made beforehand), stock allocator and denormal settings. On a
card a step ends when the card has ended it, fp16 scales its loss, and the peak is that of PyTorch's allocator.

    torch_step.py --layers 4 --width 128 --heads 4 --vocab 4096 --context 256 --batch 16 --mode bf16-compiled --json
    torch_step.py ... --serve     # stays alive: "run STEPS UNTIMED" on stdin, one JSON line back, until stdin closes

Shapes: B sequences, T positions, C width, H heads, V vocabulary.
"""
import argparse
import json
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

MODES = ("f32-eager", "f32-compiled", "bf16-eager", "bf16-compiled", "fp16-eager", "fp16-compiled")
NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B,T,C]
        b, t, c = x.shape
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.norm1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B,H,T,C/H]
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, vocab: int, context: int):
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:  # both [B,T]; the mean loss, nats
        x = self.tokens(inputs) + self.positions.weight[: inputs.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)  # [B,T,V]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def resident(field: str) -> int | None:
    """Bytes of `VmHWM` or `VmRSS` of this process."""
    try:
        with open("/proc/self/status") as status:
            return 1024 * int(re.search(rf"{field}:\s*(\d+) kB", status.read())[1])
    except (OSError, TypeError):
        return None


def forget_peak() -> bool:
    """Lets the high-water mark start again from what is resident now."""
    try:
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
        return True
    except OSError:
        return False


class Trainer:
    def __init__(self, args: argparse.Namespace):
        torch.manual_seed(0)
        self.before = resident("VmHWM")
        self.device = torch.device(args.device)
        self.narrow = NARROW.get(args.mode.split("-")[0])
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.mode.startswith("fp16"))
        self.tokens_per_step = args.batch * args.context
        self.model = Gpt(args.layers, args.width, args.heads, args.vocab, args.context).train().to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, **{args.adamw: True}
        )
        self.loss_of = torch.compile(self.model) if args.mode.endswith("compiled") else self.model
        drawn = torch.randint(args.vocab, (4, args.batch, args.context + 1), device=self.device)
        self.batches = [(d[:, :-1].contiguous(), d[:, 1:].contiguous()) for d in drawn]
        self.done = 0

    def step(self) -> torch.Tensor:
        inputs, targets = self.batches[self.done % len(self.batches)]
        self.done += 1
        with torch.autocast(self.device.type, dtype=self.narrow, enabled=self.narrow is not None):
            loss = self.loss_of(inputs, targets)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def finish(self) -> None:
        """A card works behind the program's back."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak(self) -> int | None:
        """Most bytes held since the peak was forgotten: of the process, or of the card by PyTorch."""
        return torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else resident("VmHWM")

    def forget_peak(self) -> bool:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        return forget_peak()

    def warm_up(self) -> dict:
        """Two steps at least (the first compiles), more while they are short. Then the peak is counted anew."""
        begin = time.perf_counter()
        first = self.step().item()
        compiled = time.perf_counter()
        last_s, count = 0.0, 1
        while count < 2 or (count < 10 and time.perf_counter() - compiled < 1.0):
            start = time.perf_counter()
            self.step()
            self.finish()
            last_s = time.perf_counter() - start
            count += 1
        whole_life = self.peak()
        steady = self.forget_peak()
        return {
            "first_step_s": compiled - begin,
            "step_s": last_s,
            "first_loss": first,
            "params": sum(p.numel() for p in self.model.parameters()),
            "resident_before_bytes": self.before,
            "warm_up_peak_bytes": whole_life,
            "peak_is_steady": steady,
        }

    def run(self, steps: int, untimed: int) -> dict:
        for _ in range(untimed):
            self.step()
        self.finish()
        seconds, begin = [], time.perf_counter()
        for _ in range(steps):
            start = time.perf_counter()
            loss = self.step()
            # Each step by itself on a processor; on a card they follow each other without a pause, as in training.
            if self.device.type != "cuda":
                seconds.append(time.perf_counter() - start)
        if self.device.type == "cuda":
            self.finish()
            seconds = [(time.perf_counter() - begin) / steps] * steps
        return {
            "steps": steps,
            "seconds_per_step": sum(seconds) / steps,
            "tokens_per_s": self.tokens_per_step * steps / sum(seconds),
            "median_tokens_per_s": self.tokens_per_step / statistics.median(seconds),
            "loss": loss.item(),
            "peak_resident_bytes": self.peak(),
        }


def versions() -> dict:
    config = torch.__config__.show()
    patterns = {"mkl": r"Math Kernel Library Version (\S+)", "onednn": r"MKL-DNN (v\S+)"}
    found = {name: re.search(pattern, config) for name, pattern in patterns.items()}
    return {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **({"card": torch.cuda.get_device_name(), "cuda": torch.version.cuda} if torch.cuda.is_available() else {}),
        **{name: match[1] for name, match in found.items() if match},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in dict(layers=4, width=128, heads=None, vocab=4096, context=256, batch=16, steps=20, threads=2).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--mode", choices=MODES, default="f32-eager")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--adamw", choices=("fused", "foreach"), default="fused")
    parser.add_argument("--simdlen", type=int, help="bits of the vectors torch.compile may use")
    parser.add_argument("--serve", action="store_true", help="stay alive and time when asked")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.heads = args.heads or max(args.width // 64, 1)
    torch.set_num_threads(args.threads)
    if args.simdlen:
        from torch._inductor import config as inductor_config

        inductor_config.cpp.simdlen = args.simdlen

    trainer = Trainer(args)
    ready = {"ready": True, "mode": args.mode, "threads": torch.get_num_threads(), **trainer.warm_up(), "versions": versions()}
    if not args.serve:
        result = {**ready, **trainer.run(args.steps, 0)}
        if args.json:
            print(json.dumps(result))
        else:
            mib = (result["peak_resident_bytes"] or 0) / 2**20
            print(f"{args.mode}: {result['median_tokens_per_s']:.0f} tokens/s, peak {mib:.0f} MiB, torch {torch.__version__}")
        return
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        verb, *numbers = line.split()
        if verb != "run":
            break
        print(json.dumps(trainer.run(*map(int, numbers))), flush=True)


if __name__ == "__main__":
    main()
