#!/usr/bin/env python3
"""Logs the runs of an isoflop store to MLflow:  tools/to_mlflow.py study/runs [RUN …] [--follow]

Uses your own `mlflow` and wherever it is set to log to (MLFLOW_TRACKING_URI, or --tracking-uri). Given again, it goes on
with what it has not logged. Needs `pip install mlflow` (or mlflow-skinny).
"""

import argparse

import mlflow
import store

PARAMS_A_CALL, METRICS_A_CALL = 100, 500


def find(client, experiment, name):
    """The MLflow run of a run of ours, begun before or now."""
    found = client.search_runs([experiment], f"tags.`isoflop.run` = '{name}'")
    return found[0] if found else client.create_run(experiment, tags={"isoflop.run": name}, run_name=name)


def log(client, experiment, run, follow):
    from mlflow.entities import Metric, Param, RunTag

    there = find(client, experiment, run.name)
    run_id, sent = there.info.run_id, int(there.data.tags.get("isoflop.rows", 0))
    if sent == 0:
        params = [Param(key, str(value)[:500]) for key, value in store.settings(run).items()]
        for at in range(0, len(params), PARAMS_A_CALL):
            client.log_batch(run_id, params=params[at : at + PARAMS_A_CALL])
    now, batch = mlflow.utils.time.get_current_time_millis(), []

    def send():
        client.log_batch(run_id, metrics=batch, tags=[RunTag("isoflop.rows", str(sent))])
        batch.clear()

    for row in store.rows(run, sent, follow):
        batch += [Metric(key, value, now, row["step"]) for key, value in store.scalars(row).items()]
        sent += 1
        if len(batch) >= METRICS_A_CALL - len(store.SCALARS):
            send()
    send()
    points = [
        Metric(f"point/{key}", point[key], now, point["tokens"])
        for point in store.records(run, "points")
        for key in ("loss", "flops", "bits_per_byte")
        if point.get(key) is not None
    ]
    if points:
        client.log_batch(run_id, metrics=points)
    for alarm in store.records(run, "alarms"):
        client.set_tag(run_id, f"isoflop.alarm.{alarm['alarm']}", alarm["words"])
    ends = {"done": "FINISHED", "diverged": "FAILED", "failed": "FAILED", "stopped": "KILLED"}
    client.set_terminated(run_id, ends.get(store.status(run), "RUNNING"))
    print(f"{run.name}: {sent} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--experiment", default="isoflop")
    parser.add_argument("--tracking-uri")
    parser.add_argument("--follow", action="store_true", help="until the runs are over")
    args = parser.parse_args()
    client = mlflow.MlflowClient(tracking_uri=args.tracking_uri)
    known = client.get_experiment_by_name(args.experiment)
    experiment = known.experiment_id if known else client.create_experiment(args.experiment)
    for run in store.runs(args.store, args.runs):
        log(client, experiment, run, args.follow)


if __name__ == "__main__":
    main()
