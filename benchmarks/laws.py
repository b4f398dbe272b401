"""Laws on RegMix's public runs: `python -m benchmarks.laws DIR`.

DIR holds sail-sg/regmix's `{train,test}_{mixture,pile_loss}_1m.csv` (MIT licence): 512 training mixtures of 17 domains
with 13 losses of 1M-parameter models, and 256 held-out ones. Every form is fitted to the first and ranks the second.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings

from mixer import laws, tables, validation

TARGETS = {"gp": 0.994, "lgbm": 0.989, "exp": 0.97, "power": 0.97}  # mean Spearman on the held-out runs


def main() -> None:
    """Measure, print, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="folder of RegMix's tables")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    train, test = (_runs(options.folder, split) for split in ("train", "test"))
    figures = []
    for form in laws.names():
        start = time.perf_counter()
        law = laws.fit(*train, form, "min")
        seconds = time.perf_counter() - start
        found = validation.mean(validation.validate(law, *test))
        figures.append({"law": form, "spearman": found.spearman, "covered": found.covered, "seconds": seconds})
        print(
            f"{form:<6} Spearman {found.spearman:.4f} ({TARGETS[form]} wanted)  "
            f"90 % intervals hold {found.covered:.1%} (87 to 93 wanted)  fit {seconds:.1f} s (60 wanted)",
            flush=True,
        )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _runs(folder: str, split: str) -> tuple[tables.Mixtures, tables.Table]:
    places = [os.path.join(folder, f"{split}_{kind}_1m.csv") for kind in ("mixture", "pile_loss")]
    return tables.joined(tables.mixtures(places[0]), tables.read(places[1]))


if __name__ == "__main__":
    main()
