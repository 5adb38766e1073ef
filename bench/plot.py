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
    "part": ("#1d4ed8", "#f2a65a", "#6aa84f", "#8e7cc3", "#d9534f", "#7ea6f4"),
    "part in two": (
        *("#1d4ed8", "#7ea6f4"),
        *("#d97a1c", "#f6c38f"),
        *("#4d8a35", "#a5cf95"),
        *("#7560b0", "#c1b5e0"),
        *("#6b7280", "#c4c8cf"),
    ),
}
WIDTH_IN = 11
PANEL_HEIGHT_IN = 3.5
STACK_HEIGHT_IN = 1.0
"""Of a panel of stacked bars: its title and axis, and …"""
BAR_HEIGHT_IN = 0.38
"""… each of its bars."""
HEAD_IN = 0.7
GROUP_WIDTH = 0.86
LABELLED_MAX = 40
"""Bars of a panel that still have room for their values."""


def main() -> None:
    # Any: decoded JSON, of a shape that report.py has checked.
    report: dict[str, Any] = json.load(sys.stdin)
    panels = report["panels"]
    heights = [_height_in(panel) for panel in panels]
    height = sum(heights) + HEAD_IN
    plt.rcParams.update({"font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold"})
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(WIDTH_IN, height), squeeze=False, height_ratios=heights
    )
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        if panel["kind"] == "stacked":
            _stacked(axes, panel)
            continue
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


def _height_in(panel: dict[str, Any]) -> float:
    if panel["kind"] != "stacked":
        return PANEL_HEIGHT_IN
    return STACK_HEIGHT_IN + BAR_HEIGHT_IN * len(panel["groups"])


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


def _stacked(axes: Axes, panel: dict[str, Any]) -> None:
    series = panel["series"]
    places = range(len(panel["groups"]))
    left = [0.0 for _ in places]
    for each, colour in zip(series, _colours(series), strict=True):
        widths = [value or 0 for value in each["values"]]
        axes.barh(places, widths, 0.62, left=left, label=each["name"], color=colour)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, total in zip(places, left, strict=True):
        axes.annotate(
            _short(total),
            (total, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_title(panel["title"], loc="left")
    axes.set_ylabel(panel["axis"])
    axes.set_yticks(places, panel["groups"])
    # The first on top; and bars as high in a panel that has but one.
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlim(0, max(left) * 1.07)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


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
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.2g}"


if __name__ == "__main__":
    main()
