"""What a test asks of a finding, and a subject to write a study of."""

from rekindle.signals.remedies import DiagnoseSettings, Subject


def subject(
    model="m",
    *,
    parameters=1,
    sections=None,
    reward=None,
    weak=None,
    problems=50,
    train=544,
    group_size=8,
    task=None,
):
    """A model that was diagnosed, without loading one."""
    tree = {"model": {"name": model}, **(sections or {})}
    tree |= {"reward": reward} if reward else {}
    settings = DiagnoseSettings.model_validate(tree)
    return Subject(settings, parameters, weak, problems, train, group_size, task)


def row(found, name):
    return next(r for r in found.rows if r.name == name)


def refused(found):
    return {advice.what: advice.why for advice in found.against}
