"""Results of `compare.py` as Markdown."""
import pathlib
import re
import sys


def si(value: float | None) -> str:
    """Three significant digits: 740, 2.15 k, 14.9 k, 3.40 T."""
    if value is None:
        return "–"
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{three(value / scale)} {unit}"
    return three(value)


def three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ranged(spread: dict | None, form=si) -> str:
    """Median (least–most)."""
    return f"{form(spread['median'])} ({form(spread['min'])}–{form(spread['max'])})" if spread else "–"


def mib(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:.0f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def times(value: float | None) -> str:
    return "–" if value is None else f"{three(value)}×"


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def head(*cells: str) -> list[str]:
    return [row(*cells), "|" + "---|" * len(cells)]


def dimensions(result: dict) -> str:
    s = result["shape"]
    return f"L{s['layers']} d{s['width']} h{s['heads']}, vocabulary {s['vocab']}, {s['batch']} × {s['context']}"


def entry(result: dict, key: str) -> dict:
    return result["summary"]["entries"].get(result[key], {}) if result[key] else {}


def mode(result: dict) -> str:
    s = result["summary"]
    extra = re.sub(r"^isoflop |--precision \S+ ?|\(defaults\)", "", result["ours"] or "").strip()
    return " ".join(part for part in (s.get("precision"), s.get("kernels"), extra) if part) or "–"


def speeds(results: list[dict]) -> list[str]:
    speeds = ("isoflop, tokens/s", "with", "PyTorch's best, tokens/s", "which is", "ratio (by round)", "bar")
    lines = head("shape", *speeds, "share of peak: isoflop", "PyTorch")
    for r in results:
        mine, theirs = entry(r, "ours"), entry(r, "torch")
        over = theirs.get("ours_over_it") or {}
        ratio = times(over.get("of_medians"))
        if by_round := over.get("by_round"):
            ratio = f"**{ratio}** ({three(by_round['min'])}–{three(by_round['max'])})"
        met = r["summary"].get("bar_met")
        bar = "–" if not r["bar"] else f"{r['bar']:g}×, {'met' if met else 'missed' if met is False else 'not measured'}"
        best = (r["torch"] or "–").removeprefix("PyTorch ")
        cells = (dimensions(r), ranged(mine.get("tokens_per_s")), mode(r), ranged(theirs.get("tokens_per_s")), best, ratio, bar)
        lines.append(row(*cells, percent(mine.get("share_of_peak")), percent(theirs.get("share_of_peak"))))
    return lines


def memory(results: list[dict]) -> list[str]:
    lines = head("shape", "isoflop, whole process, MiB", "PyTorch, MiB", "ratio", "isoflop, grown by the model, MiB", "PyTorch, MiB", "ratio")
    for r in results:
        mine, theirs = entry(r, "ours"), entry(r, "torch")
        cells = [dimensions(r)]
        for key in ("peak_bytes", "grown_bytes"):
            ratio = theirs.get(f"ours_over_its_{key}")
            cells += [mib(mine.get(key)), mib(theirs.get(key)), "–" if ratio is None else f"{ratio:.2f}"]
        lines.append(row(*cells))
    return lines


def tried(results: list[dict]) -> list[str]:
    """Every mode: how the best was chosen, and what was refused in its own words."""
    lines = []
    for r in results:
        parts = []
        for t in r["tried"]:
            if "refused" in t:
                parts.append(f"{t['name']}: not run ({t['refused']})")
            else:
                parts.append(f"{t['name']} {si(t['sample']['tokens_per_s'])}{'' if t['quiet'] else ' (not in quiet)'}")
        parts += [f"{name} in the rounds: {reason}" for name, reason in r["refused"].items()]
        lines.append(f"- {dimensions(r)}: " + "; ".join(parts))
    return lines


def others(results: list[dict]) -> list[str]:
    lines = head("shape", "library", "tokens/s", "isoflop over it", "peak memory, MiB")
    for r in results:
        for name in r["rust"]:
            e = r["summary"]["entries"].get(name, {})
            version = ((r["versions"].get(name) or {}).get(name)) or name
            ratio = times((e.get("ours_over_it") or {}).get("of_medians"))
            said = r["refused"].get(name)
            lines.append(row(dimensions(r), version, said or ranged(e.get("tokens_per_s")), ratio, mib(e.get("peak_bytes"))))
    return lines


def curve(results: list[dict]) -> list[str]:
    lines = head("shape", "N (without embeddings)", "tokens/s", "ms a step", "FLOP/s", "share of peak", "with", "peak memory, MiB")
    for r in results:
        mine, s = entry(r, "ours"), r["summary"]
        speed = mine.get("tokens_per_s")
        if not speed:
            lines.append(row(dimensions(r), *["–"] * 7))
            continue
        step_ms = 1e3 * r["shape"]["batch"] * r["shape"]["context"] / speed["median"]
        rate = si(speed["median"] * s["flops_per_token"])
        cells = (dimensions(r), si(s["params"]), ranged(speed), three(step_ms), rate, percent(mine["share_of_peak"]))
        lines.append(row(*cells, mode(r), mib(mine["peak_bytes"])))
    return lines


def conditions(results: list[dict]) -> list[str]:
    """Where, when and with what: once, or every value that occurs."""
    def each(get) -> str:
        return ", ".join(dict.fromkeys(str(get(r)) for r in results))

    versions = {}
    for r in results:
        for v in r["versions"].values():
            versions |= v or {}
    for said in dict.fromkeys(r["mkl_kernels"] for r in results if r["mkl_kernels"]):
        versions["mkl"] = f"{versions.get('mkl', '')} ({said})".strip()
    env = {f"{k}={v}" for r in results for side in r["env"].values() for k, v in side.items()}
    peaks = [s["peak_flops_per_s"] for r in results if "peak_flops_per_s" in (s := r["summary"])]
    peak = f"; measured peak {'–'.join(dict.fromkeys(si(p) for p in (min(peaks), max(peaks))))}FLOP/s" if peaks else ""
    machine = each(lambda r: "{cpu}, {cores} cores ({flags}), {gib:.0f} GiB".format(
        **r["machine"], flags=" ".join(r["machine"]["extensions"]), gib=r["machine"]["memory_bytes"] / 2**30
    ))
    thrown = sum(sum(r["thrown_away"].values()) for r in results)
    missing = sum(s is None for r in results for samples in r["samples"].values() for s in samples)
    return [
        f"{each(lambda r: r['machine']['date'])}; {machine}{peak}; {each(lambda r: r['threads'])} threads.",
        "; ".join(
            [f"{each(lambda r: r['isoflop'])}, commit {each(lambda r: r['machine']['commit'])}"]
            + [v if k in ("candle", "burn") else f"{k} {v}" for k, v in versions.items()]
            + sorted(env)
        )
        + ".",
        f"Median (least–most) of {each(lambda r: r['rounds'])} rounds, alternately, about {each(lambda r: r['budget_s'])} s a sample; "
        f"{thrown} samples with more than {each(lambda r: r['max_foreign_percent'])} % foreign load thrown away and taken again"
        + (f", {missing} not had in quiet at all" if missing else "")
        + ".",
    ]


def markdown(kind: str, results: list[dict]) -> str:
    if not results:
        return "No results.\n"
    lines = [*conditions(results), ""]
    if kind == "curve":
        lines += curve(results)
    else:
        lines += speeds(results)
        if any(r["torch"] for r in results):
            lines += ["", *memory(results)]
        if any(r["rust"] for r in results):
            lines += ["", *others([r for r in results if r["rust"]])]
    lines += ["", "Before the rounds, the better of two samples each, tokens/s:", "", *tried(results)]
    return "\n".join(lines) + "\n"


def put_into(readme: pathlib.Path, kind: str, text: str) -> None:
    start, end = f"<!-- table:{kind} -->", f"<!-- /table:{kind} -->"
    before, found, rest = readme.read_text().partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        sys.exit(f"{readme} has no place for this table\nhint: {start} and {end} on lines of their own")
    readme.write_text(f"{before}{start}\n{text}{end}{after}")
