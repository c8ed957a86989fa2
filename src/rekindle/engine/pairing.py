"""Whether two models' logits may be added: the same tokens in the same rows, the same prompts."""

from collections.abc import Iterator
from itertools import takewhile, zip_longest

from rekindle.engine.policy import Policy
from rekindle.errors import ModelError

_WHY = "logits are added row by row: of different tokens the sum would mean nothing"


def check_pair(strong: Policy, weak: Policy) -> None:
    """Refuse a pair whose tokenizers, templates, end tokens or vocabularies differ.

    Ids are compared one by one, not sizes. The pad token may differ: padding is masked by place.

    Raises:
        ModelError: names the first difference.
    """
    for what, ours, theirs in _differences(strong, weak):
        raise ModelError(
            f"'{weak.config.name}' cannot be mixed with '{strong.config.name}': {what}",
            got=theirs,
            wanted=ours,
            why=_WHY,
            fix="use two checkpoints of one model family, saved with the same tokenizer",
        )


def _differences(strong: Policy, weak: Policy) -> Iterator[tuple[str, object, object]]:
    ours, theirs = _tokens(strong), _tokens(weak)
    if ours is not theirs:
        for token_id, (mine, other) in enumerate(zip_longest(ours, theirs)):
            if mine != other:
                yield "another tokenizer", f"token {token_id} = {mine!r}", f"{other!r}"
                return
    for name in ("eos_id", "eos_ids"):
        if vars(strong)[name] != vars(weak)[name]:
            yield f"another {name}", vars(strong)[name], vars(weak)[name]
    if strong.tokenizer.chat_template != weak.tokenizer.chat_template:
        mine, other = (str(p.tokenizer.chat_template) for p in (strong, weak))
        at = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(mine, other, strict=False))))
        yield "another chat template", _around(mine, at), _around(other, at)
    for name in ("system", "chat_template", "template_args", "template_date"):
        if vars(strong.config)[name] != vars(weak.config)[name]:
            yield f"another model.{name}", vars(strong.config)[name], vars(weak.config)[name]
    rows = [p.head().weight.shape[0] for p in (strong, weak)]
    if rows[0] != rows[1]:
        yield "another padded vocabulary", f"{rows[0]} rows", f"{rows[1]} rows"


def _tokens(policy: Policy) -> list[str | None]:
    """Tokens by id; None where the tokenizer has none."""
    tokens = {index: token for token, index in policy.tokenizer.get_vocab().items()}
    return [tokens.get(index) for index in range(max(tokens) + 1)]


def _around(text: str, at: int) -> str:
    return f"...{text[max(0, at - 20) : at + 20]!r}... at character {at}"
