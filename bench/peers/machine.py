"""What machine this is, what else runs on it, and the environments and builds the comparison needs."""
import contextlib
import datetime
import fcntl
import hashlib
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "isoflop-peers"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> tuple[float, float]:
    """(busy, all) seconds of all processors so far. Time stolen by a hypervisor is busy: it was not ours."""
    with open("/proc/stat") as stat:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy / TICKS_PER_S, (busy + idle + iowait) / TICKS_PER_S


def process_cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all its threads."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_peak_bytes(pid: int) -> int | None:
    """`VmHWM`. Not `ru_maxrss`: a child starts with that of the process it was forked from."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/status") as status:
            if found := re.search(r"VmHWM:\s*(\d+) kB", status.read()):
                return 1024 * int(found[1])
    return None


class ForeignLoad:
    """Share of the machine's processor time that went to anything but the process measured."""

    def __enter__(self):
        self.start = cpu_seconds()
        return self

    def __exit__(self, *_):
        self.end = cpu_seconds()

    def share(self, own_s: float) -> float:
        busy_s, all_s = (after - before for before, after in zip(self.start, self.end))
        return max(0.0, busy_s - own_s) / all_s if all_s > 0 else 0.0


def facts() -> dict:
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo)
    flags = set((re.search(r"flags\s*:\s*(.*)", cpuinfo) or [None, ""])[1].split())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    memory = re.search(r"MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model[1].strip() if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "extensions": [flag for flag in wanted if flag in flags],
        "memory_bytes": 1024 * int(memory[1]),
        "system": f"{platform.system()} {platform.release()}",
        "commit": commit(),
        "rustc": output("rustc", "--version"),
    }


def output(*command: str, cwd: pathlib.Path = ROOT) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str:
    """Short name of the commit, marked where what is built differs from it."""
    changed = output("git", "status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock")
    return output("git", "rev-parse", "--short", "HEAD") + ("+changes" if changed else "")


def environment() -> pathlib.Path:
    """The Python with the pinned PyTorch: made once, named by interpreter and pins, reused when it is there."""
    requirements = HERE / "requirements.txt"
    key = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()[:12]
    venv = CACHE / f"venv-{key}"
    python, complete = venv / "bin" / "python", venv / "complete"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"venv-{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            print(f"making {venv} (PyTorch and what it needs: several GB)", file=sys.stderr)
            made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)])
            if made.returncode != 0:
                sys.exit("this Python cannot make a virtual environment\nhint: on Debian install python3-venv, or give --python")
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], check=True)
            complete.touch()
    return python


def check_environment(python: pathlib.Path) -> None:
    """A Python given by hand must hold the pinned PyTorch."""
    pinned = re.search(r"^torch==(\S+)", (HERE / "requirements.txt").read_text(), re.MULTILINE)[1]
    found = output(str(python), "-c", "import importlib.metadata as m; print(m.version('torch'))")
    if found.partition("+")[0] != pinned:
        sys.exit(f"{python} holds torch {found}, and requirements.txt pins {pinned}\nhint: leave --python out")


def mkl_kernels(python: pathlib.Path, env: dict[str, str]) -> str | None:
    """Which instructions MKL, which does PyTorch's f32 products, says it uses: it goes by the maker of the processor too."""
    once = "import torch; x = torch.randn(64, 64); x @ x"
    said = subprocess.run([python, "-c", once], env={**os.environ, **env, "MKL_VERBOSE": "1"}, capture_output=True, text=True).stdout
    found = re.search(r"64 architecture (.*?),? Lnx", said)
    return found[1].strip() if found else None


def build_isoflop() -> pathlib.Path:
    subprocess.run(["cargo", "build", "--locked", "--release", "--quiet"], cwd=ROOT, check=True)
    target = re.search(r'"target_directory":"([^"]*)"', output("cargo", "metadata", "--no-deps", "--format-version", "1"))[1]
    return pathlib.Path(target) / "release" / "isoflop"


def build_rust_peers() -> pathlib.Path:
    """candle and burn, for exactly this processor; outside the clone, because it is 300 crates."""
    target = CACHE / "target"
    subprocess.run(
        ["cargo", "build", "--locked", "--release", "--quiet"],
        cwd=HERE / "candle_burn",
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        check=True,
    )
    return target / "release" / "rust-peers"
