"""A study in sentences: what it found, how to read its verdicts, and what speaks against them."""

from __future__ import annotations

from rekindle.report.formatting import amount, difference, level_title, listed, plural
from rekindle.study.evidence import has_oracle, too_few
from rekindle.study.schema import StudyResults


def summary(results: StudyResults) -> list[str]:
    """What was run, and what the declared comparison found, in sentences."""
    claim = results.claim.strip()
    sentences = [claim if claim.endswith((".", "?", "!", ":")) else f"{claim}."] if claim else []
    runs = sum(block.finished for block in results.arms.values())
    sentences.append(
        f"{plural(len(results.arms), 'arm')}, {plural(len(results.bases), 'base model')}, "
        f"{plural(len(results.seeds), 'seed')}: {plural(runs, 'finished run')}."
    )
    declared, after = results.primary.declared, results.primary.changed_after
    word = "Declared" if declared else f"Changed after {plural(after, 'finished run')}"
    word += f" ({'; '.join(results.primary.changed)})" if results.primary.changed else ""
    when = f"{word} before the first run" if declared else word
    for row in results.comparisons:
        if not row.primary:
            continue
        subject = f"{row.method} against {row.baseline}"
        if row.delta is None:
            why = row.why or "it was not measured"
            sentences.append(f"{word}: {row.metric} of {subject}: {row.verdict}, because {why}.")
            continue
        ends = (row.ci_low, row.ci_high)
        interval = (
            "no interval"
            if None in ends
            else "95 % interval " + " to ".join(difference(row.metric, end) for end in ends)
        )
        sentences.append(
            f"{when}: {row.metric} on {level_title(row.level)} of {subject}. "
            f"{row.baseline} has {amount(row.metric, row.before)}, {row.method} "
            f"{amount(row.metric, row.after)}, a difference of "
            f"{difference(row.metric, row.delta, unit=True)} ({interval}). Verdict: {row.verdict}."
        )
    return sentences


def cautions(results: StudyResults) -> str:
    """How to read the verdicts, and what speaks against resting much on them."""
    least = smallest_that_matters(results)
    text = (
        "“Helps” means that the whole 95 % interval lies on the better side of 0. “Does not” means "
        f"that no improvement of {least} or more lies in it. Otherwise the data cannot tell yet."
    )
    others = len(results.comparisons) - sum(row.primary for row in results.comparisons)
    if others:
        which = "declared row" if results.primary.declared else "row in bold"
        text += (
            f" Only the {which} decides. The other {plural(others, 'row')} are exploratory: their "
            "intervals are not widened for the number of rows, and of twenty rows where nothing "
            "differs, about one interval excludes 0 by chance."
        )
    if too_few(len(results.bases), len(results.seeds)):
        text += (
            f" With {plural(len(results.bases), 'base model')} and "
            f"{plural(len(results.seeds), 'seed')} this is a look at how the arms behave, not "
            "evidence for a method."
        )
    oracles = [arm for arm, block in results.arms.items() if has_oracle(block.settings)]
    if oracles:  # their verdict is no method's
        text += (
            f" {listed(oracles)} {'have' if len(oracles) > 1 else 'has'} a control in place of a "
            "reward model: the true check plus noise (reward.source: oracle). Its result holds for "
            "a reward model that cannot be gamed."
        )
    return text


def smallest_that_matters(results: StudyResults) -> str:
    """The smallest difference that would matter, in the unit of differences."""
    return difference(results.primary.metric, results.meaningful, unit=True).removeprefix("+")
