"""`python bench/plot.py PICTURE < panels.json`: draws the panels of a report, one under another.

On the interpreter that has matplotlib; the JSON is that of `report.Panel`, with a title.
"""

import json
import sys
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {
    "ours": ("#1d4ed8", "#7ea6f4"),
    "reference": ("#1f2937",),
    "other": ("#f2a65a", "#d98880", "#b7a5d6", "#9fc5a8", "#cdb892", "#a9a9a9"),
}
WIDTH_IN = 11
PANEL_HEIGHT_IN = 3.5
HEAD_IN = 0.7
GROUP_WIDTH = 0.86
LABELLED_MAX = 40
"""Bars of a panel that still have room for their values."""


def main() -> None:
    # Any: decoded JSON, of a shape that report.py has checked.
    report: dict[str, Any] = json.load(sys.stdin)
    panels = report["panels"]
    height = PANEL_HEIGHT_IN * len(panels) + HEAD_IN
    plt.rcParams.update({"font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold"})
    figure, grid = plt.subplots(len(panels), 1, figsize=(WIDTH_IN, height), squeeze=False)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        (_lines if panel["kind"] == "lines" else _bars)(axes, panel)
        _dress(axes, panel)
    handles, names = grid[0, 0].get_legend_handles_labels()
    # Not a suptitle, for which the layout would leave room a second time.
    top = 1 - 0.1 / height
    figure.text(0.01, top, report["title"], va="top", fontsize=13, fontweight="bold")
    if len(names) > 1:
        figure.legend(
            handles,
            names,
            loc="upper left",
            bbox_to_anchor=(0.005, 1 - 0.36 / height),
            ncols=len(names),
            frameon=False,
            fontsize=9,
            handlelength=1.1,
            columnspacing=1.2,
        )
    figure.tight_layout(
        rect=(0, 0, 1, 1 - (HEAD_IN if len(names) > 1 else HEAD_IN / 2) / height), h_pad=1.6
    )
    figure.savefig(sys.argv[1], dpi=110)


def _bars(axes: Axes, panel: dict[str, Any]) -> None:
    series = panel["series"]
    width = GROUP_WIDTH / len(series)
    labelled = len(series) * len(panel["groups"]) <= LABELLED_MAX
    for number, (each, colour) in enumerate(zip(series, _colours(series), strict=True)):
        offset = (number - (len(series) - 1) / 2) * width
        places = [group + offset for group in range(len(panel["groups"]))]
        heights = [value or 0 for value in each["values"]]
        bars = axes.bar(places, heights, width * 0.92, label=each["name"], color=colour)
        if labelled:
            texts = ["" if value is None else _short(value) for value in each["values"]]
            axes.bar_label(bars, texts, fontsize=7, padding=1.5, color="#374151")
    axes.set_xticks(range(len(panel["groups"])), panel["groups"])
    axes.tick_params(axis="x", length=0)


def _lines(axes: Axes, panel: dict[str, Any]) -> None:
    series = panel["series"]
    for each, colour in zip(series, _colours(series), strict=True):
        axes.plot(panel["groups"], each["values"], "o-", label=each["name"], color=colour)


def _dress(axes: Axes, panel: dict[str, Any]) -> None:
    axes.set_title(panel["title"], loc="left")
    axes.set_xlabel(panel["axis"])
    if panel["logarithmic"]:
        axes.set_yscale("log")
        # Room for the labels above the bars, and a foot that cuts none of them off.
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * 1.6)
        axes.minorticks_off()
    else:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.06)
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _colours(series: list[dict[str, Any]]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for each in series:
        palette = COLOURS[each["role"]]
        number = seen[each["role"]] = seen.get(each["role"], -1) + 1
        found.append(palette[number % len(palette)])
    return found


def _short(value: float) -> str:
    """Three figures, as people say them: 0.52, 8.1, 940, 12.3k."""
    for bound, divisor, suffix in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= bound:
            return f"{value / divisor:.3g}{suffix}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


if __name__ == "__main__":
    main()
