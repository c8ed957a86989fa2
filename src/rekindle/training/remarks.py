"""What a user should hear of a run that went through: a rate for another size, no signal at all.

A remark is a sentence or two with what to do; it stands in the manifest, in the summary of
`rekindle train` and on the page.
"""

from collections.abc import Mapping, Sequence

from rekindle.methods.catalog import Method

LARGE = 100_000_000  # parameters from which a rate of the testbed forgets more than it teaches
_TESTBED_RATE = 1e-4  # the testbed's rates begin here; full training of large models ends far below
_ADAPTER_RATE = 4e-4  # adapters take more
_ADAPTED_SHARE = 0.25  # fewer trained parameters than that: an adapter
# Field practice, of AdamW: full training, then adapters.
_USUAL = {
    "sft": ("1e-5", "1e-4 to 2e-4"),
    "group": ("1e-6 (up to 1e-5 for short runs of the smallest)", "1e-5 to 1e-4"),
    "pairs": ("5e-7", "5e-6 to 5e-5"),
    "stages": ("5e-7 for its pairs, 1e-5 for its SFT", "5e-6 to 2e-4"),
}
_NO_SIGNAL = (
    "Ask easier problems (task.levels), more answers to a problem (group_size), or a format that "
    "the model knows (a chat template, examples in the prompt). `rekindle diagnose` measures which "
    "signal is missing."
)


def rate_remark(method: Method, rate: float, *, parameters: int, trained: int) -> str | None:
    """A word about a learning rate that fits the testbed and not this model; else None.

    Args:
        rate: `optim.lr`.
        parameters, trained: of the model, and how many of them have gradients.
    """
    adapted = trained < _ADAPTED_SHARE * parameters or method.name.endswith("_lora")
    if parameters < LARGE or rate < (_ADAPTER_RATE if adapted else _TESTBED_RATE):
        return None
    usual = _USUAL[method.kind][1 if adapted else 0]
    return (
        f"optim.lr is {rate:g}, a rate for the testbed's models of 0.16M parameters; this one has "
        f"{parameters / 1e6:,.0f}M, and may forget what it knows. Usual for {method.name}"
        f"{' with an adapter' if adapted else ''}: {usual}."
    )


def run_remarks(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """What the metrics rows of a whole run say about it: no token was trained, or no group of any
    step had answers of different rewards."""
    remarks = []
    if _every(rows, "groups/no_signal", 1.0):
        if _every(rows, "groups/all_wrong", 1.0):
            what = "Every answer of every step was wrong: there was nothing to learn from a reward."
        elif _every(rows, "groups/all_right", 1.0):
            what = (
                "Every answer of every step was right: the model can do these problems already. "
                "Ask harder ones."
            )
        else:
            what = (
                "In no step did two answers to a problem have different rewards, so nothing could "
                "be learnt from the reward."
            )
        remarks.append(what if "already" in what else f"{what} {_NO_SIGNAL}")
    trains = any("loss" in row for row in rows)  # an arm with examples in the prompt does not
    if trains and _every(rows, "tokens/trained", 0.0):
        remarks.append("No token was trained: the model is the one that the run began with.")
    return remarks


def _every(rows: Sequence[Mapping[str, object]], name: str, value: float) -> bool:
    """Whether all rows that have this number, and there are some, have this value."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(number == value for number in values)
