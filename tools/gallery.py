#!/usr/bin/env python3
"""Runs the presets and gathers their pages into a gallery:  tools/gallery.py [OUT] [--quick] [--only demo,junk]

OUT (gallery) then has a folder for each preset with its report.html and the command that made it, and an index.html
with a picture of each page where there is a Chromium and `pip install websocket-client`. `isoflop plan FILE` says
how long each takes here; --quick is a tiny form of each, of which all together take minutes and the pages say little.
Stores and what a command says stay in OUT/work: the same command again goes on where it was.
"""

import argparse
import html
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "fixtures"))

SIZES = '["L1-d8-h1", "L1-d16-h1", "L1-d24-h2", "L1-d32-h2", "L2-d32-h2"]'
#: Name → title, what the page shows, words of the command, and what makes a tiny form of it.
PRESETS = {
    "demo": (
        "The first law",
        "One model in several sizes: where does the loss go as they grow?",
        ["demo"],
        [f"series.models={SIZES}", "series.tokens=120k", 'series.branches=["60k"]', "series.extra_seeds={}",
         "train.batch_tokens=512", "train.eval_tokens=32k"],
    ),
    "isoflop": (
        "Equal compute",
        "Sizes trained at three budgets: is a larger model or more text the better use of compute?",
        ["run", "studies/isoflop.toml"],
        [f"series.models={SIZES}", 'series.flops=["2e9", "4e9", "8e9"]', "train.eval_tokens=32k"],
    ),
    "junk": (
        "Junk among the text",
        "Kinds of junk in several shares: what is left of the tokens?",
        ["run", "studies/junk.toml"],
        ['series.models=["L1-d8-h1", "L1-d16-h1", "L1-d24-h2"]', "series.tokens=240k",
         'series.branches=["30k", "60k", "120k"]', 'arms.junk=["base64"]', "train.batch_tokens=512",
         "train.eval_tokens=32k"],
    ),
    "batch": (
        "The batch",
        "Small and large batches, each at several rates: which is too large?",
        ["run", "studies/batch.toml"],
        ['series.models=["L1-d8-h1"]', "series.tokens=240k", 'series.branches=["60k", "120k"]',
         "arms.batches=[512, 2048, 8192]", "arms.rates=[0.5, 1, 2]", "train.warmup=8k", "train.eval_tokens=32k"],
    ),
    "fewshot": (
        "Few-shot learning",
        "Prototypes against attention on the built-in icons, judged on the same episodes.",
        ["fewshot", "run", "studies/fewshot.toml"],
        ["backbone.width=16", "pretrain.epochs=1", "episodes.count=64", "episodes.trained_count=12",
         "test.episodes=200", "seeds=[1, 2]",
         'methods=["nearest-mean", "proto", "ccd", "feat"]', 'sweep.methods=["feat"]',
         "sweep.classes=[0.4]", "sweep.per_step=[4]"],
    ),
}
#: A study with a run that diverged leaves with 3, and still has its page.
WITH_A_PAGE = (0, 3)
STYLE = """
:root { color-scheme: light dark; --line: #8886 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem }
article { border: 1px solid var(--line); border-radius: 6px; padding: 1rem }
img { width: 100%; height: auto; border: 1px solid var(--line) }
code { font-size: 0.8rem; overflow-wrap: anywhere }
h2 { margin: 0.5rem 0 0 }
"""


def quoted(words):
    return " ".join(f"'{word}'" if set(word) & set(" []\"{}") else word for word in words)


def make(name, isoflop, out, quick):
    """Runs a preset in its folder of the work; what there is to say of it, or None where it failed."""
    title, about, words, tiny = PRESETS[name]
    sets = [part for change in (tiny if quick else []) for part in ("--set", change)]
    place = out / "work" / name
    place.mkdir(parents=True, exist_ok=True)
    told = [str(ROOT / word) if word.startswith("studies/") else word for word in words]
    command = [isoflop, *told, *sets, "--store", str(place / "runs"), "--out", str(place / "out")]
    began = time.monotonic()
    with (place / "said.txt").open("w") as said:
        code = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, cwd=place).returncode
    seconds = time.monotonic() - began
    page = place / "out" / "report.html"
    if code not in WITH_A_PAGE or not page.exists():
        print(f"{name}: left with {code}\nhint: {place / 'said.txt'} has what it said", file=sys.stderr)
        return None
    (out / name).mkdir(exist_ok=True)
    shutil.copyfile(page, out / name / "report.html")
    shown = "isoflop " + quoted([*words, *sets])
    (out / name / "command.txt").write_text(shown + "\n", encoding="utf-8")
    print(f"{name}: {seconds:.0f} s, a page of {page.stat().st_size / 1000:.0f} kB", flush=True)
    return {"name": name, "title": title, "about": about, "command": shown}


def pictures(made, out):
    """Draws each page from its top; without a browser a page is a link alone, and that is said."""
    try:
        import browser
    except ImportError as missing:
        print(f"no pictures: {missing}\nhint: pip install websocket-client", file=sys.stderr)
        return
    if browser.chromium() is None:
        print("no pictures: there is no Chromium on the PATH", file=sys.stderr)
        return
    window = browser.Browser(1000, 750)
    try:
        for page in made:
            window.open((out / page["name"] / "report.html").resolve().as_uri())
            ready = "document.readyState === 'complete' && location.pathname.endsWith('report.html')"
            window.until(f"{ready} && location.pathname.includes('/{page['name']}/')")
            window.picture(out / page["name"] / "page.png", whole=False)
            if window.complaints:
                raise SystemExit(f"{page['name']}: the page complains: {window.complaints}")
    finally:
        window.close()


def index(made, out, version, quick):
    """The page of pages; nothing in it is fetched from elsewhere."""
    text = lambda words: html.escape(words, quote=True)  # noqa: E731
    articles = []
    for page in made:
        link = f'{page["name"]}/report.html'
        picture = out / page["name"] / "page.png"
        shown = f'<img src="{page["name"]}/page.png" alt="Top of the page">' if picture.exists() else ""
        articles.append(
            f'<article><a href="{link}">{shown}<h2>{text(page["title"])}</h2></a>'
            f'<p>{text(page["about"])}</p><code>{text(page["command"])}</code></article>'
        )
    note = " Tiny forms, made in minutes: the pages are whole, their figures say little." if quick else ""
    (out / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>isoflop: a gallery</title><style>{STYLE}</style><h1>Pages of isoflop</h1>"
        f"<p>Each is one file, made by the command below it with {text(version)}.{note}</p>"
        f"<main>{''.join(articles)}</main></html>\n",
        encoding="utf-8",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=pathlib.Path("gallery"))
    parser.add_argument("--quick", action="store_true", help="a tiny form of each")
    parser.add_argument("--only", metavar="NAMES", default=",".join(PRESETS), help="some of them, with commas")
    parser.add_argument("--isoflop", default=os.environ.get("ISOFLOP", str(ROOT / "target" / "release" / "isoflop")))
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := [name for name in names if name not in PRESETS]:
        parser.error(f"no preset {', '.join(unknown)}; there are {', '.join(PRESETS)}")
    isoflop = shutil.which(args.isoflop)
    if isoflop is None:
        parser.error(f"{args.isoflop} is no program; build it (cargo build --release) or name it with --isoflop")
    isoflop = str(pathlib.Path(isoflop).resolve())
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([isoflop, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    made = [page for name in names if (page := make(name, isoflop, out, args.quick))]
    pictures(made, out)
    index(made, out, version, args.quick)
    (out / "gallery.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(out / "index.html")
    return 0 if len(made) == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
