"""The tables and the chart."""

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.comparison import calls, geometric_mean, is_same, ratio, ratio_of_fastest, seconds

PARTS = {"forward": "forward", "input": "input gradient", "filter": "filter gradient"}


def machine(abouts: dict[str, dict[str, Any]], cores: int) -> dict[str, Any]:
    """Where the numbers come from: processor or accelerator, system, versions, date."""
    first = next(iter(abouts.values()))
    versions = {"Python": platform.python_version(), "numpy": version("numpy")}
    for about in abouts.values():
        versions |= about["versions"]
    device = _processor() if first["platform"] == "cpu" else first["device_kind"]
    facts = {"platform": first["platform"], "device": device, "cores": cores, "system": platform.system()}
    return {**facts, "versions": versions, "date": date.today().isoformat()}


def _processor():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def heading(report: dict[str, Any]) -> str:
    about = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"{about['device']}, {about['cores']} cores, {about['system']}, {versions}, {about['date']}. "
        f"{report['dtype']}, at least {report['rounds']} interleaved rounds. "
        f"Peak, measured by a large matrix product: {report['peak_flops'] / 1e9:.0f} GFLOP/s."
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _milliseconds(result):
    if not np.isfinite(seconds(result)):
        return "failed"
    low, middle, high = (1e3 * q for q in np.quantile(calls(result), (0.25, 0.5, 0.75)))
    digits = 1 if middle >= 10 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def networks(report: dict[str, Any]) -> str:
    """The tables of the training steps."""
    rows = report["networks"]
    peers = list(rows[0]["peers"])
    others = [peer for peer in peers if peer != "jaxcnn"]
    times = [
        [row["name"], *(_milliseconds(row["peers"][peer]) for peer in peers)]
        + [number(ratio(row["peers"], peer)) for peer in others]
        for row in rows
    ]
    plain = [row for row in rows if not row["per_example"]] or rows
    means = [number(geometric_mean([ratio(row["peers"], peer) for row in plain])) for peer in others]
    times.append(["geometric mean", *("" for _ in peers), *means])
    parts = [
        "## A training step",
        "Milliseconds: median (quartiles). Ratio: how many times longer than jaxcnn, the median over the rounds. "
        "DP-SGD: a gradient for each example. The means are those of the other networks.",
        table(["network", *peers, *(f"{peer} / jaxcnn" for peer in others)], times),
    ]
    compiled = [peer for peer in ("jaxcnn", "lax") if peer in peers]
    compilations = max(len(row["peers"]["jaxcnn"].get("compile_seconds", ())) for row in rows)
    head = ["network", "input", "GFLOP"]
    head += [f"{what}, {peer}" for what in ("share of peak", "compiled in s", "memory in MB") for peer in compiled]
    cells = []
    for row in rows:
        results = [row["peers"][peer] for peer in compiled]
        shares = [row["flops"] / seconds(result) / report["peak_flops"] for result in results]
        cells.append(
            [row["name"], "x".join(map(str, row["input"])), number(row["flops"] / 1e9)]
            + [f"{number(100 * share, 0)} %" for share in shares]
            + [number(float(np.median(result.get("compile_seconds", [np.nan])))) for result in results]
            + [number(result.get("memory_bytes", np.nan) / 1e6, 1) for result in results]
        )
    parts += [
        "Operations are those of convolutions and dense layers, from their shapes. Compiling is tracing, lowering and "
        f"compiling with empty caches, the median of {compilations}. Memory is that of arguments, results that are not "
        "stored in place of arguments, and temporaries, as `memory_analysis()` of the compiled step says.",
        table(head, cells),
    ]
    return "\n\n".join(parts)


def operations(report: dict[str, Any]) -> str:
    """The table of the operations, and its summary."""
    rows = report["operations"]
    head = ["operation", "GFLOP", "MB"]
    for part in PARTS.values():
        head += [f"{part}, ms", "lax / jaxcnn", "share of peak"]
    cells = []
    for row in rows:
        cell = [row["name"], number(row["flops"] / 1e9, 3), number(row["bytes"] / 1e6)]
        for part in PARTS:
            results = row["parts"].get(part)
            if results is None:
                cell += ["", "", ""]
                continue
            times = [number(1e3 * seconds(result), 3) for result in results.values()]
            share = 100 * row["flops"] / seconds(results["jaxcnn"]) / report["peak_flops"]
            compared = "same" if "lax" in results and is_same(results, "lax") else number(ratio(results, "lax"))
            cell += [" / ".join(times), compared, f"{share:.0f} %" if row["flops"] else ""]
        cells.append(cell)
    ratios = _operation_ratios(rows)
    gradients = [value for (_, part), value in ratios.items() if part != "forward"]
    forward = [value for (_, part), value in ratios.items() if part == "forward"]
    slower = {key: value for key, value in ratios.items() if value < 0.95}
    lines = [
        "## Operations",
        "Milliseconds of jaxcnn / lax, and the median of their ratio over the rounds. GFLOP and MB are those of each "
        "part: products and sums, and the least that is read and written. The gradient of max-pooling includes its "
        "forward pass, and so moves twice as much. Where it says same, XLA has compiled the very same instructions, "
        "and the ratio counts as 1.",
        table(head, cells),
        f"Of {len(rows)} operations: geometric mean of lax / jaxcnn {number(geometric_mean(gradients))} for gradients, "
        f"{number(geometric_mean(forward))} forward; lowest {number(min(ratios.values(), default=np.nan))}; "
        f"{len(slower)} of {len(ratios)} below 0.95" + (", with that of the fastest calls:" if slower else "."),
    ]
    results = {(row["name"], part): row["parts"][part] for row in rows for part in row["parts"]}
    fastest = {key: number(ratio_of_fastest(results[key], "lax")) for key in slower}
    lines += ["\n".join(f"- {key[0]}, {PARTS[key[1]]}: {number(slower[key])} ({fastest[key]})" for key in slower)]
    return "\n\n".join(line for line in lines if line)


def _operation_ratios(rows):
    """lax / jaxcnn of every part that both computed."""
    ratios = {(row["name"], part): ratio(results, "lax") for row in rows for part, results in row["parts"].items()}
    return {key: value for key, value in ratios.items() if np.isfinite(value)}


def failures(report: dict[str, Any]) -> list[str]:
    """What a peer could not compute, or computed differently."""
    cases = [(row["name"], row["peers"]) for row in report["networks"]]
    cases += [
        (f"{row['name']}, {PARTS[part]}", row["parts"][part]) for row in report["operations"] for part in row["parts"]
    ]
    return [
        f"{name}: {peer} {result['error']}"
        for name, results in cases
        for peer, result in results.items()
        if "error" in result
    ]


def chart(report: dict[str, Any], file: str) -> None:
    """A picture of the ratios: a bar for each network and peer, and one for each part of an operation, sorted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    panels = [name for name in ("networks", "operations") if report[name]]
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(10, 4.5 * len(panels)), squeeze=False, layout="constrained")
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        rows = report[panel]
        if panel == "networks":
            others = [peer for peer in rows[0]["peers"] if peer != "jaxcnn"]
            width = 0.8 / max(1, len(others))
            for k, peer in enumerate(others):
                places = np.arange(len(rows)) + (k - (len(others) - 1) / 2) * width
                axis.bar(places, [ratio(row["peers"], peer) - 1 for row in rows], width, bottom=1, label=peer)
            axis.set_xticks(range(len(rows)), [row["name"] for row in rows])
            axis.set_title("A training step")
        else:
            ratios = _operation_ratios(rows)
            first = 0
            for part, label in PARTS.items():
                values = np.sort([value for (_, of), value in ratios.items() if of == part])
                axis.bar(np.arange(first, first + values.size), values - 1, 1, bottom=1, label=label)
                first += values.size + 2
            axis.set_xticks([])
            axis.set_title("Operations, lax against jaxcnn")
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_ylabel("times longer than jaxcnn")
        axis.legend()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
