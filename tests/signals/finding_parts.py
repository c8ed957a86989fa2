"""What a test asks of a finding."""


def row(found, name):
    return next(r for r in found.rows if r.name == name)


def refused(found):
    return {advice.what: advice.why for advice in found.against}
