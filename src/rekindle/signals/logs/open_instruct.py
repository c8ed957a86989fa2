"""open-instruct's `<run>_rollouts_<shard>.jsonl`, with `--save_traces --rollouts_save_path DIR`.

Read from its source (e6c3044aa, `rl_utils.py`). A row is `step, sample_idx, prompt_idx,
prompt_tokens, response_tokens, reward, advantage, finish_reason, dataset, ground_truth,
request_info, logprobs`. How it misleads:

* There is no text, only token numbers. They become text where the tokenizer of the model that the
  metadata name is on this machine; else the numbers stand for it.
* `prompt_idx` starts again at each step, and shards are appended to: of a run that was resumed the
  same step may stand twice, with other answers. A step that starts again is another batch.
* `reward` is the sum of its verifiers, 10 for a right answer by default.
* Groups without spread are dropped before they are written (`filter_zero_std_samples`, on by
  default).
* With `mask_truncated_completions` answers that were cut are dropped, and the rest is numbered by
  `sample_idx // group size`: rows of one `prompt_idx` may be answers to two prompts. So they were
  when advantages were made of them.
* `logprobs` are the sampler's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rekindle.signals.logs.lines import Damage, Extract, Row, each_line, number, plain
from rekindle.signals.logs.mapped import as_cut, as_integer, natural, summed
from rekindle.signals.logs.record import LogAbout, LoggedRow, Place
from rekindle.signals.logs.tables import column_names

NAME = "open_instruct"
NEEDED = {"step", "prompt_idx", "prompt_tokens", "response_tokens", "reward"}
Decode = Callable[[Sequence[int]], str]
_FILTER = (
    "groups without spread are dropped before they are written (filter_zero_std_samples, on by "
    "default): a log without all-wrong groups is no proof that there were none"
)


@dataclass(frozen=True)
class OpenInstructReader:
    """The rows of a run's shards.

    Attributes:
        decode: token numbers to text.
    """

    about: LogAbout
    decode: Decode
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in order."""
        batch = _Batches()
        for file, path in enumerate(self.about.files):
            yield from each_line(path, self._row_maker(file, batch), self.damage)

    def _row_maker(self, file: int, batch: _Batches) -> Extract[LoggedRow]:
        decode = self.decode

        def make(row: Row, line: int) -> LoggedRow:
            step, sample = as_integer(row.get("step")), as_integer(row.get("sample_idx"))
            answer = _ids(row.get("response_tokens"))
            sampled, _ = summed(row.get("logprobs"))
            source = row.get("dataset")
            return LoggedRow(
                place=Place(file, line),
                step=step,
                prompt=decode(_ids(row.get("prompt_tokens"))),
                text=decode(answer),
                score=number(row.get("reward")),
                group=(batch.number(step, sample), as_integer(row.get("prompt_idx"))),
                advantage=number(row.get("advantage")),
                tokens=len(answer),
                cut=as_cut(row.get("finish_reason")),
                sampler_logprob=sampled,
                split="eval" if isinstance(source, str) and source.endswith("_eval") else "train",
            )

        return make


class _Batches:
    """Counts the batches that were written: a step that starts again is another one."""

    def __init__(self) -> None:
        self.count, self.last = 0, (-1, -1)

    def number(self, step: int | None, sample: int | None) -> int:
        here = (-1 if step is None else step, -1 if sample is None else sample)
        if here[0] != self.last[0] or here[1] <= self.last[1]:
            self.count += 1
        self.last = here
        return self.count


def is_open_instruct(path: Path) -> bool:
    """Whether a directory, or a file, holds open-instruct's rollouts."""
    files = _shards(path)
    return bool(files) and set(column_names(files[0])) >= NEEDED


def open_open_instruct(path: Path) -> OpenInstructReader:
    """The log of an open-instruct run.

    Raises:
        DataError: its files cannot be read.
    """
    files = _shards(path)
    model = _model(files[0])
    decode, note = _decoder(model)
    notes = (_FILTER,) if note is None else (_FILTER, note)
    about = LogAbout(NAME, None, tuple(files), notes=notes, groups_span=True)
    return OpenInstructReader(about, decode)


def _shards(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if "_rollouts_" in path.name and path.suffix == ".jsonl" else []
    found = path.rglob("*_rollouts_[0-9]*.jsonl")
    return sorted((file for file in found if file.stat().st_size), key=natural)


def _ids(value: object) -> list[int]:
    found = plain(value)
    return found if isinstance(found, list) else []


def _model(shard: Path) -> str | None:
    """The model that the run's metadata name."""
    place = shard.with_name(shard.name.split("_rollouts_")[0] + "_metadata.jsonl")
    if not place.is_file():
        return None
    names = each_line(place, lambda row, _: row.get("model_name"), Damage())
    return next((name for name in names if isinstance(name, str)), None)


def _decoder(model: str | None) -> tuple[Decode, str | None]:
    """Decodes by the model's tokenizer where it is on this machine; else numbers stand for text."""
    path = None if model is None else _tokenizer_file(model)
    if path is None:
        where = f"the tokenizer of {model}" if model else "a tokenizer that the run names"
        note = (
            f"{where} is not on this machine: token numbers stand for prompts and answers, and "
            "--check cannot grade them"
        )
        return (lambda ids: " ".join(map(str, ids))), note
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return (lambda ids: str(tokenizer.decode(list(ids)))), None


def _tokenizer_file(model: str) -> Path | None:
    """`tokenizer.json` of a directory, or of the hub's cache."""
    if (place := Path(model) / "tokenizer.json").is_file():
        return place
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "tokenizer.json")
    except HFValidationError:  # a path that is not on this machine
        return None
    return Path(cached) if isinstance(cached, str) else None
