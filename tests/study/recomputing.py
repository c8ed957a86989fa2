"""The results of an archived study, computed again from the outcomes that it holds."""

from rekindle.study.analyse.results import study_results
from rekindle.study.plan.planning import load_study, plan
from rekindle.study.store.archive_read import unpacked
from rekindle.study.store.layout import DECLARED, read_results


def recomputed(place):
    """As study.json of the archive holds them; a damaged archive is refused."""
    stored = read_results(place)
    with unpacked(place) as at:
        study = load_study(at / DECLARED)
        results = study_results(study, at, plan(study, at))
    arms = {
        arm: block.with_(
            runs=[
                mine.with_(out=theirs.out)
                for mine, theirs in zip(block.runs, stored.arms[arm].runs, strict=True)
            ]
        )
        for arm, block in results.arms.items()
    }
    results = results.with_(arms=arms, failed=stored.failed)
    return results.with_(cost=stored.cost) if "cost" in stored.model_fields_set else results
