#!/usr/bin/env python3
"""Logs the runs of an isoflop store to Weights & Biases:  tools/to_wandb.py study/runs [RUN …] [--follow]

Uses your own `wandb` and its settings (WANDB_MODE=offline writes to disk alone). Given again online, it goes on with
what it has not logged. Needs `pip install wandb`.
"""

import argparse

import store
import wandb


def log(run, project, follow):
    there = wandb.init(
        project=project, id=run.name.replace("/", "-"), name=run.name, config=store.settings(run), resume="allow"
    )
    # The steps of a branch repeat those of its trunk: the x of every curve is the tokens seen.
    there.define_metric("tokens")
    there.define_metric("*", step_metric="tokens")
    sent = int(there.summary.get("isoflop/rows") or 0) if there.resumed else 0
    for row in store.rows(run, sent, follow):
        sent += 1
        there.log({**store.scalars(row), "tokens": row["tokens"], "step": row["step"], "isoflop/rows": sent})
    for sample in store.records(run, "machine"):
        traced = {f"machine/{key}": sample[key] for key in ("watts", "celsius", "own") if key in sample}
        if traced and not there.resumed:
            there.log({**traced, "machine/unix_s": sample["unix_s"]})
    for point in store.records(run, "points"):
        for key in ("loss", "loss_se", "flops", "bits_per_byte"):
            if point.get(key) is not None:
                there.summary[f"point-{point['tokens']}/{key}"] = point[key]
    for alarm in store.records(run, "alarms"):
        there.summary[f"alarm/{alarm['alarm']}"] = alarm["words"]
    there.summary["status"] = store.status(run)
    there.finish(exit_code=0 if store.status(run) in ("done", "running") else 1)
    print(f"{run.name}: {sent} rows")


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
