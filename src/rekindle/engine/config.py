"""The sections of a recipe that every method shares; defaults live here and nowhere else.

Frozen, and closed: an unknown key is an error. Method sections are in `methods/`, the whole recipe
in `training/recipe.py`.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from rekindle.chat import DATE
from rekindle.rewards.python_reward import is_place
from rekindle.tasks.sources import is_data


class Section(BaseModel):
    """A frozen part of a recipe that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _as_names(value: object) -> object:
    # `levels: [3, 4]` and `levels: 4` mean what they look like.
    many = value if isinstance(value, list | tuple) else [value]
    return None if value is None else tuple(str(item) for item in many)


Levels = Annotated[tuple[str, ...] | None, BeforeValidator(_as_names)]
Dtype = Literal["float32", "bfloat16", "float16", "float64"]
SaveDtype = Literal["float32", "bfloat16", "float16"]
VERIFIERS = ("exact", "numeric", "math", "code")


def _as_verifier(name: str) -> str:
    if name not in VERIFIERS and not is_place(name):
        wanted = f"one of {', '.join(VERIFIERS)}, or package.module:function of your own"
        raise PydanticCustomError("verifier", wanted)
    return name


def _as_day(value: object) -> str:
    # YAML reads 2024-07-26 as a date.
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise PydanticCustomError("day", "a date, YYYY-MM-DD") from None


Day = Annotated[str, BeforeValidator(_as_day)]
Verifier = Annotated[str, AfterValidator(_as_verifier)]


class LoraConfig(Section):
    """A LoRA adapter, trained instead of the model's own weights."""

    rank: int = Field(default=16, ge=1, description="of the adapter's halves")
    alpha: float | None = Field(default=None, gt=0.0, description="None: 2 rank")
    targets: Levels = Field(
        default=None, description="names of linear maps; None: all of them but the head"
    )
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="of the adapter's input, in training"
    )
    dora: bool = Field(default=False, description="magnitudes apart, arXiv 2402.09353")
    rslora: bool = Field(default=False, description="alpha / sqrt(rank), arXiv 2312.03732")

    @property
    def scale(self) -> float:
        """Alpha, whatever the section leaves open."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


class ModelConfig(Section):
    """Which model, and how it is held."""

    name: str = Field(
        default="testbed/countdown-s0",
        description="testbed/<name>, a directory in Hugging Face layout, or a hub id",
    )
    revision: str | None = Field(default=None, description="hub commit, tag or branch")
    dtype: Dtype = Field(
        default="float32",
        description="of matrix products; what is trained is held in float32 (float64: in that)",
    )
    save_dtype: SaveDtype | None = Field(
        default=None,
        description="of the weights in final/, which are rounded to it; None: as they were trained",
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        default="auto", description="how attention is computed; auto: as transformers chooses"
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="layers are run again in the backward pass: less memory, about a third more "
        "time",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    chat_template: Literal["auto", "always", "never"] = Field(
        default="auto", description="auto: used when the tokenizer has one"
    )
    system: str | None = Field(
        default=None,
        description="system message, with a chat template; a row's own system turn replaces it",
    )
    template_args: dict[str, JsonValue] = Field(
        default_factory=dict, description="given to the chat template: {enable_thinking: false}"
    )
    template_date: Day = Field(
        default=DATE, description="what a chat template that writes the date takes for today"
    )
    eos_token: str | None = Field(default=None, description="replaces the tokenizer's")
    pad_token: str | None = Field(default=None, description="replaces the tokenizer's")
    trust_remote_code: bool = Field(default=False, description="run code that the model brings")
    lora: LoraConfig | None = Field(
        default=None, description="a LoRA adapter is trained, and nothing else (extra [peft])"
    )
    adapter: str | None = Field(
        default=None,
        description="directory of a LoRA adapter of this model; training goes on with it",
    )
    quantize: Literal["none", "nf4", "int8"] = Field(
        default="none", description="of the weights under an adapter; needs a GPU and bitsandbytes"
    )

    def with_name(self, name: str) -> ModelConfig:
        """Another model, held as this one is; a revision and an adapter belong to the model that
        they were given for."""
        return self.model_copy(update={"name": name, "revision": None, "adapter": None})


class TaskConfig(Section):
    """Where the problems come from and how answers are checked."""

    name: str = Field(
        default="countdown",
        description="see `rekindle tasks`; or a file (.jsonl, .json, .csv, .parquet), a directory, "
        "a hub id",
    )
    levels: Levels = Field(default=None, description="None: all of the task's")
    path: str | tuple[str, ...] | None = Field(
        default=None, description="jsonl: the file or files, or a directory of splits"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="of data: {prompt: question, answer: extra_info.answer}, where the names of "
        "columns do not say it",
    )
    shared_rows: Literal["refuse", "tell"] = Field(
        default="refuse", description="of data: problems of dev or test that are in train"
    )
    verifier: Verifier | None = Field(
        default=None,
        description="of data: how an answer is compared: exact, numeric (default), math, code; any "
        "task: package.module:function, a reward in Python",
    )
    args: dict[str, Any] = Field(default_factory=dict, description="task-specific settings")
    timeout: float | None = Field(
        default=None, gt=0.0, description="seconds for an answer or test case; math, code: 5"
    )
    workers: int | None = Field(
        default=None, ge=1, description="processes of math and code; None: by cores"
    )
    read: Literal["any", "marked"] = Field(
        default="any", description="marked: without a box, ####, a cue or <answer> no answer counts"
    )
    cut: Literal["wrong", "missing"] = Field(
        default="wrong", description="what an answer is that the token limit cut off"
    )
    unevaluated: Literal["accept", "reject"] = Field(
        default="accept", description="math: whether 2^10 counts where the gold is 1024"
    )
    verifier_version: Literal[1, 2] = Field(
        default=2, description="of exact, numeric and math; runs before 0.2 have 1"
    )
    max_prompt_tokens: int | None = Field(
        default=None,
        ge=1,
        description="longest prompt, in tokens of the model behind the chat template; None: as the "
        "context allows",
    )
    long_prompts: Literal["error", "drop"] = Field(
        default="error",
        description="drop: rows whose prompts are longer, or leave no room for an answer in the "
        "context, are left out before training, and counted",
    )
    max_missing: float = Field(
        default=0.5, ge=0.0, le=1.0, description="share of a step's answers that may lack a score"
    )
    brittle: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="share of problems whose training verifier takes the reference text alone; "
        "evaluation keeps the true check",
    )

    def places(self) -> tuple[str, ...]:
        """Where the data lies, if it is in files."""
        if self.path is None:
            return (self.name,) if is_data(self.name) else ()
        return (self.path,) if isinstance(self.path, str) else self.path


class RewardConfig(Section):
    """A reward model beside the verifier; none unless `model`, `url` or `source` is set."""

    source: Literal["model", "random", "oracle"] = Field(
        default="model",
        description="the controls of studies: random, N(0, 1) by the hash of the text; oracle, the "
        "true check and noise",
    )
    model: str | None = Field(
        default=None,
        description="a directory or hub id of a scalar-head AutoModelForSequenceClassification",
    )
    revision: str | None = Field(default=None, description="hub commit, tag or branch")
    dtype: Dtype = Field(default="float32", description="of its linear maps and their products")
    trust_remote_code: bool = Field(default=False, description="run code that the model brings")
    batch_tokens: int = Field(default=16_384, ge=1, description="padded tokens scored at once")
    seed: int = Field(default=0, ge=0, description="of source: random or oracle")
    noise: float = Field(
        default=0.7, ge=0.0, description="of source: oracle; 0.7 makes an AUC of 0.84"
    )
    url: str | None = Field(default=None, description="an HTTP server instead of a model")
    protocol: Literal["openrlhf", "classify", "score"] = Field(
        default="openrlhf", description="what the server speaks, see docs/reward_models.md"
    )
    served: str | None = Field(default=None, description="the model's name at a vLLM server")
    key_env: str | None = Field(default=None, description="variable that holds the server's key")
    batch: int = Field(default=64, ge=1, description="answers in one request")
    timeout: float = Field(
        default=60.0, gt=0.0, description="seconds of a request, to the last byte of its reply"
    )
    retries: int = Field(default=5, ge=0, description="after 429, 5xx, timeouts, lost connections")
    backoff: float = Field(
        default=1.0, ge=0.0, description="seconds before the first retry, doubled each time"
    )
    cache: int = Field(
        default=0,
        ge=0,
        description="texts remembered between calls; 0: none, so that a resumed run is bit-exact",
    )
    max_missing: float = Field(
        default=0.5, ge=0.0, le=1.0, description="share of a step's answers that may lack a score"
    )


class SampleConfig(Section):
    """How completions are drawn."""

    temperature: float = Field(default=1.0, ge=0.0, description="0: greedy")
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="likeliest tokens drawn from, by their mass"
    )
    max_new_tokens: int = Field(default=64, ge=1, description="longest answer")
    stop: tuple[str, ...] = Field(default=(), description="strings that end a completion")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=512, description="rows decoded at once; auto: as many as free memory has room for"
    )


class OptimConfig(Section):
    """The optimizer and the length of the run."""

    steps: int = Field(default=100, ge=1, description="at most, where a budget of tokens is set")
    max_generated: int | None = Field(
        default=None, ge=1, description="training ends when so many tokens were sampled for it"
    )
    max_trained: int | None = Field(
        default=None, ge=1, description="training ends when so many tokens went into the loss"
    )
    problems: int = Field(
        default=32, ge=1, description="problems (sft: samples) a step, all processes"
    )
    micro_tokens: int | None = Field(
        default=None, ge=1, description="padded tokens in one forward pass; None: by device"
    )
    name: Literal["adamw", "adamw_8bit", "adafactor", "muon"] = Field(
        default="adamw",
        description="adafactor: no moments to speak of; muon: hidden matrices, the rest by adamw; "
        "adamw_8bit: torchao's, on a GPU",
    )
    lr: float = Field(
        default=5e-4,
        gt=0.0,
        description="after the warm-up; adafactor: a share of each tensor's root mean square",
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="of the rate after the warm-up; the others fall to 0"
    )
    warmup: float = Field(default=0.0, ge=0.0, le=1.0, description="share of the steps")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW's")
    weight_decay: float = Field(default=0.0, ge=0.0, description="decoupled")
    clip: float = Field(default=1.0, gt=0.0, description="largest gradient norm")


class CheckpointConfig(Section):
    """When the state of a run is saved, so that it can go on after a kill."""

    every: int = Field(default=50, ge=1, description="steps")
    keep: int = Field(default=2, ge=1, description="complete checkpoints kept")
    keep_finished: bool = Field(
        default=False,
        description="keep them when the run is finished too: weights and the optimizer's state",
    )


class EvalConfig(Section):
    """Evaluation during and after training (the last is always made)."""

    every: int = Field(default=0, ge=0, description="steps; 0: only before and after")
    split: Literal["dev", "test"] = Field(default="dev", description="held-out problems")
    problems: int = Field(default=100, ge=1, description="per level")
    samples: int = Field(default=8, ge=1, description="per problem")
    levels: Levels = Field(default=None, description="None: the task's levels")
    temperatures: tuple[float, ...] = Field(
        default=(), description="also sample at these: metrics pass@1@t<T>"
    )
    likelihood: bool = Field(
        default=False, description="also chain_prob, nll (of reference answers), brier, ece"
    )


class LogConfig(Section):
    """What is written beside the metrics."""

    samples: int = Field(
        default=16, ge=0, description="rollouts written to samples.jsonl each step"
    )
    exporters: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        default=(), description="trackers that get the metrics too (extra [trackers])"
    )


class DeviceConfig(Section):
    """Threads, and whether the same seed must give the same bits."""

    threads: int | Literal["auto"] = Field(
        default="auto",
        description="CPU threads a process; auto: 1 for small models, else "
        "OMP_NUM_THREADS or all cores",
    )
    deterministic: bool = Field(default=True, description="kernels, where there are such")
