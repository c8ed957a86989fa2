"""A dry run in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from rekindle.training.dry_run.dry_run import DryRun

_NAMES = {
    "process": "python and its libraries",
    "weights": "weights",
    "masters": "weights in float32",
    "gradients": "gradients",
    "moments": "the optimizer's moments",
    "activations": "activations",
    "logits": "logits",
    "cache": "keys and values of the sampler",
    "reference": "the reference model",
    "other_models": "other models",
}


def lines_of(run: DryRun) -> Iterator[str]:
    """The lines that the command prints."""
    share = (
        ""
        if run.trained_parameters == run.parameters
        else (f", {_count(run.trained_parameters)} of them trained")
    )
    yield f"{run.method} on {run.model}: {_count(run.parameters)} parameters{share}"
    verdict = "fits into" if run.fits else "does not fit into"
    where = "GPU" if run.device == "cuda" else "machine"
    yield f"memory: {_size(run.peak_bytes)} at the peak ({run.at}); this {verdict} the " + (
        f"{_size(run.memory_bytes)} that are free on the {where}"
    )
    for part, size in sorted(run.parts.items(), key=lambda item: -item[1]):
        if size >= 500_000:
            yield f"  {_size(size):>10}  {_NAMES[part]}"
    tokens = ", ".join(f"{_count(n)} {name}" for name, n in run.tokens.items() if n)
    yield f"tokens: {tokens}"
    spent = ", ".join(f"{_time(s)} {name}" for name, s in run.seconds_by.items() if s >= 0.5)
    yield f"time:   {_time(run.seconds)}" + (f" ({spent})" if spent else "")
    yield f"        at {run.rates}"
    if run.instead:
        yield "what needs less memory:"
    for less in run.instead:
        sets = " ".join(f"--set '{override}'" for override in less.set)
        fits = "fits" if less.fits else "does not fit"
        yield f"  {_size(less.peak_bytes):>10}  {less.change} ({fits}): {sets}"
    for sentence in run.assumed:
        yield f"assumed: {sentence}"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _count(count: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return str(count)


def _time(seconds: float) -> str:
    for limit, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * limit:
            return f"{seconds / limit:.1f} {unit}"
    return f"{seconds:.0f} s"
