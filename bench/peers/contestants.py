"""The programs compared: each can be asked for one sample, some steps timed by the program itself.

A sample is a dict: `tokens_per_s`, `seconds_per_step` (elapsed time of the sample's steps over their number, for all
alike), `peak_bytes` (high-water mark of the whole process), `grown_bytes` (that less what was resident before the
model was made), `foreign` (share of the machine that others took meanwhile), and what the program said besides.
"""
import contextlib
import json
import os
import pathlib
import select
import subprocess
import tempfile
import time

from machine import HERE, ForeignLoad, process_cpu_seconds, resident_peak_bytes


class Refused(Exception):
    """The program ended without a figure; the message is its own last word."""


def last_words(text: str) -> str:
    """The line that says why: an `error:` line, a Rust panic with its message, or the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    panics = [" ".join(lines[i : i + 2]) for i, line in enumerate(lines) if " panicked at " in line]
    return (errors or panics or lines[-1:] or ["it said nothing"])[0][:200]


def grown(peak: int | None, before: int | None) -> int | None:
    return None if peak is None or before is None else peak - before


def steps_for(budget_s: float, step_s: float | None) -> int:
    return 1 if step_s is None else max(1, min(5000, round(budget_s / step_s)))


class Ours:
    """`isoflop bench train`: one process a sample, two steps untimed, the machine's peak measured first."""

    def __init__(self, binary: pathlib.Path, shape: dict, threads: int, arguments: list[str], env: dict[str, str]):
        self.name = "isoflop " + (" ".join(arguments) or "(defaults)")
        dimensions = [word for key, value in shape.items() for word in (f"--{key}", str(value))]
        self.command = [str(binary), "bench", "train", *dimensions, "--threads", str(threads), *arguments, "--json"]
        self.env = {**os.environ, **env}
        self.step_s = None

    def start(self) -> dict:
        """A first run of one step, unless there was one: does it work, and how long does a step take?"""
        return self.sample(0.0) if self.step_s is None else {}

    def sample(self, budget_s: float) -> dict:
        command = [*self.command, "--steps", str(steps_for(budget_s, self.step_s))]
        peak = None
        with ForeignLoad() as load, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(command, env=self.env, stdout=out, stderr=err)
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                peak = resident_peak_bytes(process.pid) or peak
                time.sleep(0.02)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0), err.seek(0)
            said, complaint = out.read(), err.read()
        if process.returncode != 0:
            raise Refused(f"exit {process.returncode}: {last_words(complaint)}")
        document = json.loads(said)
        self.step_s = document["seconds_per_step"]
        # The last look may have come before the last allocation; what the program saw of itself is a floor.
        peak = max(peak or 0, document.get("peak_memory_bytes") or 0) or None
        foreign = load.share(usage.ru_utime + usage.ru_stime)
        return {**document, "peak_bytes": peak, "grown_bytes": document.get("peak_memory_bytes"), "foreign": foreign}

    def stop(self) -> None:
        pass


class Server:
    """A program that stays alive between samples and times steps when asked (the protocol of torch_step.py)."""

    TIMEOUT_S = 3600

    def __init__(self, name: str, command: list[str], env: dict[str, str], cwd: pathlib.Path = HERE):
        self.name, self.command, self.cwd = name, command, cwd
        self.env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}
        self.process = None

    def start(self) -> dict:
        self.complaint = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command, env=self.env, cwd=self.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaint, text=True
        )
        self.ready = self.answer()
        self.step_s = self.ready["step_s"]
        return self.ready

    def answer(self) -> dict:
        while True:
            if not select.select([self.process.stdout], [], [], self.TIMEOUT_S)[0]:
                self.stop()
                raise Refused(f"no answer within {self.TIMEOUT_S} s")
            line = self.process.stdout.readline()
            if not line:
                code = self.process.wait()
                self.complaint.seek(0)
                raise Refused(f"exit {code}: {last_words(self.complaint.read())}")
            if line.startswith("{"):
                return json.loads(line)

    def sample(self, budget_s: float) -> dict:
        """The caches are filled again by a tenth of a second of untimed steps, unless a step is that long itself."""
        untimed = 0 if self.step_s > 1.0 else steps_for(0.1, self.step_s)
        before_s = process_cpu_seconds(self.process.pid)
        with ForeignLoad() as load:
            try:
                self.process.stdin.write(f"run {steps_for(budget_s, self.step_s)} {untimed}\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # It has ended; `answer` says how.
            sample = self.answer()
        self.step_s = sample["seconds_per_step"]
        peak = sample["peak_resident_bytes"]
        return {
            **sample,
            "mode": self.ready["mode"],
            "peak_bytes": peak,
            "grown_bytes": grown(peak, self.ready["resident_before_bytes"]),
            "foreign": load.share(process_cpu_seconds(self.process.pid) - before_s),
        }

    def stop(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(BrokenPipeError):  # It may have ended before it read all.
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None
