"""The charts: accuracy against size and against latency, with the Pareto front, and against temperature."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .advice import pareto
from .engine import Comparison, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision; the marker says it again.
FAMILIES = {
    "baseline": ("#222222", "*"),
    "pruning": ("#0072B2", "o"),
    "quantization": ("#D55E00", "s"),
    "distillation": ("#009E73", "^"),
    "combination": ("#AA4499", "D"),
}
LEADER = {"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5}


def draw(comparison: Comparison) -> dict[str, bytes]:
    """File name -> PNG."""
    charts = {"accuracy-size.png": _panels(comparison, [("stored size", "B", lambda row: row.stored_bytes)])}
    latency = [(f"time a call at batch {b}, median", "s", _seconds(b)) for b in comparison.settings.batches]
    charts["accuracy-latency.png"] = _panels(comparison, latency)
    if comparison.sweep:
        charts["accuracy-temperature.png"] = _temperatures(comparison)
    return {name: _png(figure) for name, figure in charts.items()}


def _seconds(batch: int) -> Callable[[Row], float]:
    return lambda row: row.latency[batch].seconds.median


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panels(comparison: Comparison, costs: Sequence[tuple[str, str, Callable[[Row], float]]]) -> Figure:
    # Figure, not pyplot: no display is looked for and no global state is left.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6 * len(costs)), dpi=160, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (label, unit, cost) in zip(figure.subplots(len(costs), 1, squeeze=False)[:, 0], costs, strict=True):
        _panel(axes, comparison.rows, cost)
        _log_axis(axes, label, unit)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False,
                  fontsize=9, handletextpad=0.3)
    # Labels are placed in pixels, so the layout is settled first.
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    for axes, (_, _, cost) in zip(figure.axes, costs, strict=True):
        _place_labels(axes, renderer, comparison.rows, cost)
    return figure


def _panel(axes: Axes, rows: Sequence[Row], cost: Callable[[Row], float]) -> None:
    points = [(cost(row), 100 * row.accuracy.value) for row in rows]
    front = [points[i] for i in pareto(points)]
    axes.step(*zip(*front, strict=True), where="post", color="#999999", linewidth=1.2, zorder=1, label="Pareto front")
    seen: set[str] = set()
    for row, (x, y) in zip(rows, points, strict=True):
        colour, marker = FAMILIES[row.family]
        low, high = (100 * end for end in row.accuracy.interval)
        axes.plot([x, x], [low, high], color=colour, alpha=0.25, linewidth=2, zorder=2, solid_capstyle="round")
        axes.plot(x, y, marker, color=colour, markersize=13 if marker == "*" else 8, markeredgecolor="white", zorder=3,
                  linestyle="none", label=None if row.family in seen else row.family)
        seen.add(row.family)
    axes.margins(x=0.14, y=0.12)
    axes.set_ylabel("accuracy on held-out images, %")
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _temperatures(comparison: Comparison) -> Figure:
    """Accuracy of the distilled student by temperature, with 95 % intervals; the same student without a teacher."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, NullLocator

    figure = Figure(figsize=(9, 4.2), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colour, marker = FAMILIES["distillation"]
    temperatures = [t for t, _ in comparison.sweep]
    accuracy = [100 * p.value for _, p in comparison.sweep]
    for t, (_, p) in zip(temperatures, comparison.sweep, strict=True):
        axes.plot([t, t], [100 * end for end in p.interval], color=colour, alpha=0.25, linewidth=2, zorder=2,
                  solid_capstyle="round")
    axes.plot(temperatures, accuracy, marker + "-", color=colour, markersize=8, markeredgecolor="white", zorder=3,
              label="student distilled")
    for row, style in ((comparison.rows[0], "-"), *((r, "--") for r in comparison.rows if r.name == "student alone")):
        axes.axhline(100 * row.accuracy.value, color=FAMILIES[row.family][0], linestyle=style, linewidth=1.1, zorder=1,
                     label=row.name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("temperature of the distillation loss")
    axes.set_ylabel("accuracy on held-out images, %")
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _log_axis(axes: Axes, label: str, unit: str) -> None:
    """A logarithmic axis with round numbers in SI units."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axes.xaxis.set_major_formatter(EngFormatter(unit))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def _place_labels(axes: Axes, renderer: RendererAgg, rows: Sequence[Row], cost: Callable[[Row], float]) -> None:
    """A name beside every marker, at the nearest place that covers nothing placed before."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    halo = withStroke(linewidth=3, foreground="white")
    points = [(cost(row), 100 * row.accuracy.value) for row in rows]
    pixels = axes.transData.transform(points)
    taken = [Bbox.from_bounds(x - 12, y - 12, 24, 24) for x, y in pixels]
    frame = axes.get_window_extent(renderer)
    for row, point, (x, y) in zip(rows, points, pixels, strict=True):
        text = axes.annotate(row.name, point, xytext=(0, 0), textcoords="offset pixels", fontsize=8.5, va="center",
                             color=FAMILIES[row.family][0], zorder=4, path_effects=[halo])
        box = text.get_window_extent(renderer)
        dx, dy = _free_place(box.width, box.height, x, y, taken, frame)
        text.set_position((dx, dy))
        taken.append(Bbox.from_bounds(x + dx, y + dy - box.height / 2, box.width, box.height))
        if abs(dy) > box.height:
            near = dx if dx > 0 else dx + box.width
            axes.annotate("", point, xytext=(near, dy), textcoords="offset pixels", zorder=1, arrowprops=LEADER)


def _free_place(
    width: float, height: float, x: float, y: float, taken: Sequence[Any], frame: Any
) -> tuple[float, float]:
    from matplotlib.transforms import Bbox

    for rise in range(0, 400, 4):
        for dy in (rise, -rise):
            for dx in (16.0 + rise / 8, -16.0 - rise / 8 - width):
                box = Bbox.from_bounds(x + dx - 2, y + dy - height / 2 - 1, width + 4, height + 2)
                inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
                if inside and not any(box.overlaps(other) for other in taken):
                    return dx, dy
    return 16.0, 0.0
