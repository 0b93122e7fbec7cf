"""The tables of docs/study.md, from the curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from curves import mean_interval, per_seed

PAIRS = (("dpo", "sft"), ("dpo+sft", "sft"), ("dpo+sft", "dpo"))


def methods_table(curves: pd.DataFrame, series: Sequence[str]) -> str:
    """Each setting and series: ID, OOD and GF at the last step, best and mean GF; percent, mean over seeds."""
    lines = ["| setting | series | seeds | ID, last | OOD, last | GF, last | GF, best | GF, mean |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    found = per_seed(curves)
    for setting in found["setting"].unique():
        for name in series:
            rows = found[(found["setting"] == setting) & (found["series"] == name)]
            if len(rows):
                columns = ("last_id", "last_ood", "last_gf", "best_gf", "mean_gf")
                cells = " | ".join(_cell(rows[column].to_numpy()) for column in columns)
                lines.append(f"| {setting} | {name} | {len(rows)} | {cells} |")
    return "\n".join(lines)


def differences_table(curves: pd.DataFrame, pairs: Sequence[tuple[str, str]] = PAIRS) -> str:
    """Each setting: differences between methods, paired by seed; points, with 95 % intervals over seeds."""
    lines = [
        "| setting | series | seeds | OOD, last | GF, last | GF, best | GF, mean |",
        "|---|---|---|---|---|---|---|",
    ]
    found = per_seed(curves)
    for setting in found["setting"].unique():
        table = found[found["setting"] == setting].set_index(["seed", "series"])
        for one, other in pairs:
            seeds = [s for s in table.index.unique("seed") if (s, one) in table.index and (s, other) in table.index]
            if not seeds:
                continue
            cells = []
            for column in ("last_ood", "last_gf", "best_gf", "mean_gf"):
                differences = [float(table.loc[(s, one), column] - table.loc[(s, other), column]) for s in seeds]
                cells.append(_cell(np.array(differences), sign=True))
            lines.append(f"| {setting} | {one} - {other} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def formats_table(curves: pd.DataFrame, formats: Sequence[str]) -> str:
    """Each setting and series at its last step: every OOD format, lock-in and right answers; percent."""
    last = curves.sort_values("step").groupby(["setting", "seed", "series"]).last().reset_index()
    columns = [*formats, "ood_lock_in", "ood_accuracy", "ood_nucleus"]
    means = last.groupby(["setting", "series"])[columns].mean().reset_index()
    lines = [f"| setting | series | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for row in means.to_dict("records"):
        cells = [f"{row[name]:.2f}" if name == "ood_nucleus" else f"{100 * row[name]:.0f}" for name in columns]
        lines.append(f"| {row['setting']} | {row['series']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: np.ndarray, sign: bool = False) -> str:
    mean, low, high = (100 * value for value in mean_interval(values))
    head = f"{mean:+.1f}" if sign else f"{mean:.1f}"
    return head if np.isnan(low) else f"{head} [{low:.1f}, {high:.1f}]"
