#!/usr/bin/env python3
"""Logs the runs of an isoflop store to trackio:  tools/to_trackio.py study/runs [RUN …] [--follow]

Uses your own `trackio`, which keeps what it is given on this machine (`trackio show` draws it). A run that was logged
before is logged again under a new number: give each run once, when it is over or with --follow. Needs
`pip install trackio`.
"""

import argparse

import store
import trackio


def log(run, project, follow):
    trackio.init(project=project, name=run.name, config=store.settings(run), resume="never")
    for number, row in enumerate(store.rows(run, 0, follow)):
        trackio.log({**store.scalars(row), "tokens": row["tokens"], "step": row["step"]}, step=number)
    points = {f"point-{p['tokens']}/loss": p["loss"] for p in store.records(run, "points")}
    if points:
        trackio.log(points)
    for alarm in store.records(run, "alarms"):
        trackio.alert(title=alarm["alarm"], text=alarm["words"])
    trackio.finish()
    print(f"{run.name}: {store.status(run)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--project", default="isoflop")
    parser.add_argument("--follow", action="store_true", help="until the runs are over")
    args = parser.parse_args()
    for run in store.runs(args.store, args.runs):
        log(run, args.project, args.follow)


if __name__ == "__main__":
    main()
