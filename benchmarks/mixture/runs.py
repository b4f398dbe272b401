"""Units of the benchmark, a training run with its test each: carried out in processes of their own, kept as JSON."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from benchmarks.mixture.settings import Settings
from manifests import files

Record = dict[str, Any]
PROXY_SEED = 1000  # of all proxy runs: what differs between them is the mixture


@dataclass(frozen=True)
class Unit:
    """One run. config: what `trainer.config.build` takes. tested: whether the test split is scored afterwards."""

    strategy: str
    seed: int
    config: dict[str, Any]
    tested: bool = True

    @property
    def name(self) -> str:
        """Names its file and its folder."""
        return f"{self.strategy}-{self.seed:03d}"


def unit(strategy: str, seed: int, mixture: dict[str, Any], shards: str, settings: Settings) -> Unit:
    """A run of full length. The same seed gives the same initial parameters and stream seed under every strategy."""
    return Unit(strategy, seed, _config(mixture, shards, settings, settings.steps, settings.interval, seed))


def proxy(number: int, weights: dict[str, float], shards: str, settings: Settings) -> Unit:
    """A short run on a fixed mixture, scored on D_ref before and after."""
    steps, mixture = settings.proxy_steps, {"rule": "static", "initial": weights}
    return Unit("proxy", number, _config(mixture, shards, settings, steps, steps, PROXY_SEED), tested=False)


def _config(
    mixture: dict[str, Any], shards: str, settings: Settings, steps: int, interval: int, seed: int
) -> dict[str, Any]:
    return {
        "data": {"manifest": shards, "batch": settings.batch, "crop": settings.crop, "workers": 0},
        "model": {"name": "nafnet", "preset": settings.preset},
        "optimiser": {"steps": steps, "lr": settings.lr, "warmup": min(100, steps // 10), "loss": "psnr"},
        "mixture": mixture,
        "evaluation": {"interval": interval},
        "run": {"seed": seed, "device": settings.device, "threads": 1, "keep": 1},
    }


def path(out: str, name: str) -> str:
    """Where a finished unit is kept."""
    return os.path.join(out, "units", f"{name}.json")


def load(out: str, name: str) -> Record | None:
    """A finished unit, or None."""
    try:
        record: Record = json.loads(files.read(path(out, name)))
        return record
    except FileNotFoundError:
        return None


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes with one torch thread each: on two cores two runs side by side are faster than one with two threads."""
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited; read when torch is imported
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start)


def execute(processes: ProcessPoolExecutor, units: Sequence[Unit], out: str) -> dict[str, str]:
    """Carry out what is not kept yet, in this order. Returns unit -> why it failed; the others go on."""
    todo = [one for one in units if load(out, one.name) is None]
    if len(todo) < len(units):
        _say(f"{len(units) - len(todo)} of {len(units)} units are kept in {out}")
    began, failed = time.monotonic(), dict[str, str]()
    futures: dict[Future[float], Unit] = {processes.submit(measure, one, out): one for one in todo}
    try:
        for done, future in enumerate(as_completed(futures), 1):
            name = futures[future].name
            if error := future.exception():
                failed[name] = str(error)
            said = f"failed: {error}" if error else f"mean PSNR on D_ref {future.result():.2f} dB"
            left = (time.monotonic() - began) / done * (len(todo) - done)
            _say(f"{done}/{len(todo)} {name}: {said}; about {left / 60:.1f} min left")
    except KeyboardInterrupt:
        processes.shutdown(wait=False, cancel_futures=True)
        raise
    return failed


def measure(one: Unit, out: str) -> float:
    """Train, test and keep one unit; goes on from the checkpoint of a killed run. Returns the mean D_ref PSNR, dB."""
    from trainer import config, loop

    folder = os.path.join(out, "runs", one.name)
    os.makedirs(os.path.join(out, "logs"), exist_ok=True)
    with open(os.path.join(out, "logs", f"{one.name}.txt"), "a") as log, contextlib.redirect_stderr(log):
        try:
            built = config.build(one.config)
            result = loop.run(built, folder, resume=True)
            tested = _test(folder, built) if one.tested else {"table": [], "seconds": 0.0}
        except Exception as error:  # ours may not survive the way back to the main process
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
    record = {
        "strategy": one.strategy,
        "seed": one.seed,
        "config": one.config,
        "skipped": result.skipped,
        "test": tested["table"],
        "curve": _rows(folder, "metrics.parquet", ["step", "task", "value"]),
        "weights": _rows(folder, "schedule.parquet", ["interval", "task", "weight"]),
        "seconds": {**_seconds(folder, one.config), "test": tested["seconds"]},
    }
    files.write(path(out, one.name), (json.dumps(record) + "\n").encode())
    return sum(result.scores.values()) / len(result.scores)


def _test(folder: str, built: Any) -> dict[str, Any]:
    """PSNR and SSIM of the last checkpoint, per task of the test split, and how long that took, seconds."""
    from trainer.evaluate import evaluate

    output, began = os.path.join(folder, "test.json"), time.monotonic()
    if os.path.exists(output):  # of a run that was killed right after it
        os.unlink(output)
    found = evaluate(folder, built.data.manifest, metrics=("psnr", "ssim"), device=built.run.device, output=output)
    table = [{"task": one.task, "metric": one.metric, "value": one.value, "lq": one.lq} for one in found.table]
    return {"table": table, "seconds": round(time.monotonic() - began, 3)}


def _rows(folder: str, name: str, columns: list[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(os.path.join(folder, name), columns=columns).to_pylist()
    return rows


def _seconds(folder: str, config: dict[str, Any]) -> dict[str, float]:
    """Seconds that training and the evaluations of D_ref took; an interval that was run twice counts once."""
    with open(os.path.join(folder, "run.jsonl"), encoding="utf-8") as file:
        events = [json.loads(line) for line in file]
    last = {event["step"]: event for event in events if event["event"] == "evaluate"}
    steps = min(config["evaluation"]["interval"], config["optimiser"]["steps"])
    trained = sum(steps / event["steps_per_second"] for step, event in last.items() if step)
    return {"train": round(trained, 3), "evaluate": round(sum(event["seconds"] for event in last.values()), 3)}


def _start() -> None:
    """Prepare a process: one thread, and an end with the main process, however that ends."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
