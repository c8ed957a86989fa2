"""Sampling: what a rollout may depend on, and what it must equal."""

import dataclasses

import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, decoders, models
from transformers import Gemma2Config, PreTrainedTokenizerFast

import tiny
from rekindle.engine import cache_size, cached_sampler
from rekindle.engine.cached_sampler import CachedSampler, StopStrings
from rekindle.engine.config import ModelConfig, SampleConfig
from rekindle.engine.layout import lay_out
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import Sampler
from rekindle.engine.small_decoder import decode
from rekindle.errors import ConfigError, DataError, ModelError
from rekindle.records import Problem

PROMPTS = ("1+2", "3*4-5>6:", "7", "a?b.c", "12:34", "9,8,7,6,5>4:")
PATHS = [("llama", True), ("llama", False), ("qwen3", True), ("gpt2", False), ("gemma2", False)]
CONFIG = SampleConfig(max_new_tokens=12)


def problems(prompts=PROMPTS):
    return [Problem(id=f"p{index}", prompt=prompt) for index, prompt in enumerate(prompts)]


def gemma2_config():
    """Soft-capped logits and every other layer with a window shorter than what is generated."""
    return Gemma2Config(
        vocab_size=len(tiny.VOCABULARY),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        sliding_window=8,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def policy(kind="llama", *, dtype=None, sharpness=0.35):
    """Random weights with uneven next-token probabilities; completions end now and then.

    fp64, so that rounding decides no draw; fp32 for Gemma 2, whose mask in transformers overflows
    to nan in fp64 where a padded row is wholly outside the window.
    """
    dtype = dtype or ("float32" if kind == "gemma2" else "float64")
    torch_dtype = {"float64": torch.float64, "float32": torch.float32}[dtype]
    config = gemma2_config() if kind == "gemma2" else None
    model = tiny.model(kind, dtype=torch_dtype, config=config)
    torch.manual_seed(2)
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.data.normal_(std=sharpness)
    made = Policy.of(model, tiny.tokenizer(), ModelConfig(name="tiny", dtype=dtype, device="cpu"))
    return dataclasses.replace(made, eos_ids=(2, 9, 17))


def sample(made, asked, *, samples=4, config=CONFIG, seed=0, twin=True):
    return CachedSampler(made, twin=twin).sample(asked, samples=samples, config=config, seed=seed)


def drawn(rollouts):
    return {(r.problem.id, r.sample): (r.tokens, r.finish, r.text) for r in rollouts}


def fresh_logprobs(made, rollout, *, temperature=1.0):
    layout = lay_out([rollout.prompt_tokens], [rollout.tokens])
    return made.logprobs(layout, temperature=temperature).logprobs_BT[0]


# --- what comes back


def test_rollouts_come_problem_by_problem():
    made, asked = policy(), problems()
    rollouts = sample(made, asked, samples=3)
    assert isinstance(CachedSampler(made), Sampler)
    assert [(r.problem.id, r.sample) for r in rollouts] == [
        (problem.id, g) for problem in asked for g in range(3)
    ]
    for rollout in rollouts:
        assert rollout.prompt_tokens == made.encode_prompt(rollout.problem)
        assert rollout.text == made.decode(rollout.tokens)
        assert len(rollout.sampled_logprobs) == len(rollout.tokens)


@pytest.mark.parametrize(("kind", "twin"), PATHS)
def test_a_completion_ends_with_its_first_end_token_or_at_the_limit(kind, twin):
    made = policy(kind)
    rollouts = sample(made, problems(), samples=16, twin=twin)
    assert {r.finish for r in rollouts} == {"eos", "length"}
    for rollout in rollouts:
        ends = [token in made.eos_ids for token in rollout.tokens]
        assert not any(ends[:-1])
        assert ends[-1] == (rollout.finish == "eos")
        if rollout.finish == "length":
            assert len(rollout.tokens) == CONFIG.max_new_tokens


def test_nothing_asked_nothing_sampled():
    assert sample(policy(), []) == []


# --- what a sample's draws may depend on: seed, problem and sample, nothing else


@pytest.mark.parametrize(("kind", "twin"), PATHS)
def test_neighbours_order_and_batch_size_are_invisible(kind, twin):
    """Prompts of different lengths in one batch give what each gives alone: padding included."""
    made, asked = policy(kind), problems()
    whole = drawn(sample(made, asked, twin=twin))
    alone = {}
    for problem in asked:
        alone |= drawn(sample(made, [problem], twin=twin))
    assert alone == whole
    assert drawn(sample(made, asked[::-1], twin=twin)) == whole
    for batch_size in (1, 3, 7):
        config = CONFIG.model_copy(update={"batch_size": batch_size})
        assert drawn(sample(made, asked, config=config, twin=twin)) == whole


def test_processes_that_share_the_problems_draw_what_one_would():
    made, asked = policy(), problems()
    shares = {}
    for rank in range(2):
        shares |= drawn(sample(made, asked[rank::2]))
    assert shares == drawn(sample(made, asked))


def test_a_larger_group_begins_with_the_smaller_one():
    made, asked = policy(), problems()
    larger = drawn(sample(made, asked, samples=9))
    assert drawn(sample(made, asked, samples=4)).items() <= larger.items()


def test_long_completions_keep_their_draws():
    """Positions beyond one block of random numbers, and a cache that has to grow."""
    made, asked = policy(sharpness=0.05), problems()[:3]
    made = dataclasses.replace(made, eos_ids=(2,))
    made.model.config.max_position_embeddings = made.context = 256
    short = sample(made, asked, samples=32, config=SampleConfig(max_new_tokens=70))
    long = sample(made, asked, samples=32, config=SampleConfig(max_new_tokens=150))
    assert any(len(r.tokens) > 130 for r in long)
    for a, b in zip(short, long, strict=True):
        assert b.tokens[: len(a.tokens)] == a.tokens
    config = SampleConfig(max_new_tokens=150, batch_size=5)
    assert drawn(sample(made, asked, samples=32, config=config)) == drawn(long)


def test_seed_and_problem_id_change_the_draws():
    made, asked = policy(), problems()
    base = drawn(sample(made, asked))
    assert drawn(sample(made, asked, seed=1)) != base
    renamed = [dataclasses.replace(problem, id=problem.id + "'") for problem in asked]
    assert [r.tokens for r in sample(made, renamed)] != [r.tokens for r in sample(made, asked)]


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_twin_and_transformers_forward_draw_the_same(kind):
    made = policy(kind)
    with_twin, without = sample(made, problems(), samples=16), None
    without = sample(made, problems(), samples=16, twin=False)
    assert drawn(with_twin) == drawn(without)


@pytest.mark.parametrize("twin", [True, False])
def test_a_batch_as_large_as_memory_allows_draws_the_same(twin, monkeypatch):
    made = policy()
    expected = drawn(sample(made, problems(), samples=8, twin=twin))
    auto = CONFIG.model_copy(update={"batch_size": "auto"})
    for free in (1, 200_000, 10**12):
        monkeypatch.setattr(cache_size, "free_bytes", lambda _, free=free: free)
        assert drawn(sample(made, problems(), samples=8, config=auto, twin=twin)) == expected


# --- what the numbers must equal


@pytest.mark.parametrize(("kind", "twin"), PATHS)
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (0.0, 1.0)])
def test_sampled_logprobs_equal_a_fresh_forward(kind, twin, temperature, top_p):
    """At the sampling temperature, before top-p; greedy at temperature 1."""
    made = policy(kind, dtype="float32")
    config = SampleConfig(max_new_tokens=12, temperature=temperature, top_p=top_p)
    for rollout in sample(made, problems(), samples=2, config=config, twin=twin):
        fresh = fresh_logprobs(made, rollout, temperature=temperature or 1.0)
        assert torch.allclose(torch.tensor(rollout.sampled_logprobs), fresh, atol=1e-5)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.7)])
def test_frequencies_match_the_softmax(temperature, top_p):
    """Chi-square over first tokens, and over second tokens given the commonest first one."""
    made, count = policy(), 6000
    config = SampleConfig(max_new_tokens=2, temperature=temperature, top_p=top_p)
    rollouts = sample(made, problems(("5-3>",)), samples=count, config=config)
    prompt = list(rollouts[0].prompt_tokens)
    first = [r.tokens[0] for r in rollouts]
    common = max(set(first) - set(made.eos_ids), key=first.count)
    second = [r.tokens[1] for r in rollouts if r.tokens[0] == common]
    for prefix, tokens in ((prompt, first), ([*prompt, common], second)):
        prob_V = exact_distribution(made, prefix, temperature, top_p)
        assert all(prob_V[token] > 0 for token in tokens)
        observed = torch.bincount(torch.tensor(tokens), minlength=len(prob_V)).double()
        expected = prob_V * len(tokens)
        enough = expected >= 5
        pairs = [(observed[enough], expected[enough])]
        rest = torch.stack([observed[~enough].sum(), expected[~enough].sum()])
        if rest[1] > 1:
            pairs.append((rest[:1], rest[1:]))
        seen, wanted = (torch.cat(column).numpy() for column in zip(*pairs, strict=True))
        wanted *= seen.sum() / wanted.sum()
        assert stats.chisquare(seen, wanted).pvalue > 1e-3


@torch.no_grad()
def exact_distribution(made, prefix, temperature, top_p):
    logits_V = made.model(input_ids=torch.tensor([prefix])).logits[0, -1].double()
    prob_V = torch.softmax(logits_V / temperature, -1)
    kept, mass = [], 0.0
    for token in prob_V.argsort(descending=True).tolist():
        if mass >= top_p:
            break
        kept.append(token)
        mass += float(prob_V[token])
    cut_V = torch.zeros_like(prob_V)
    cut_V[kept] = prob_V[kept]
    return cut_V / cut_V.sum()


@pytest.mark.parametrize(("kind", "twin"), PATHS)
def test_greedy_equals_transformers_generate(kind, twin):
    made, asked = policy(kind), problems()
    config = SampleConfig(max_new_tokens=15, temperature=0.0)
    rollouts = sample(made, asked, samples=1, config=config, twin=twin)
    encoded = [made.encode_prompt(problem) for problem in asked]
    width = max(map(len, encoded))
    padded = torch.tensor([[0] * (width - len(e)) + list(e) for e in encoded])
    mask = torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded])
    generated = made.model.generate(
        input_ids=padded,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=15,
        eos_token_id=list(made.eos_ids),
        pad_token_id=0,
    )[:, width:].tolist()
    for rollout, tokens in zip(rollouts, generated, strict=True):
        assert list(rollout.tokens) == tokens[: len(rollout.tokens)]
        assert set(tokens[len(rollout.tokens) :]) <= {0}


# --- ids without a text


@pytest.mark.parametrize("twin", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_ids_beyond_the_tokenizer_are_never_drawn(twin, temperature, top_p):
    """The model has rows for 10 more, its likeliest; log-probs are the trainer's, over all rows."""
    known = len(tiny.VOCABULARY)
    model = tiny.model(config=tiny.llama_config(vocab_size=known + 10))
    model.lm_head.weight.data.normal_(std=0.35)
    model.lm_head.weight.data[known:] *= 5
    made = tiny.policy_of(model)
    config = SampleConfig(max_new_tokens=12, temperature=temperature, top_p=top_p)
    rollouts = sample(made, problems(), samples=8, config=config, twin=twin)
    assert made.drawable == known
    assert max(token for rollout in rollouts for token in rollout.tokens) < known
    fresh = fresh_logprobs(made, rollouts[0])
    assert torch.allclose(torch.tensor(rollouts[0].sampled_logprobs), fresh, atol=1e-5)
    prompt = torch.tensor([rollouts[0].prompt_tokens])
    assert model(input_ids=prompt).logits[0, -1].argmax() >= known


# --- work that is not done twice


@pytest.mark.parametrize("twin", [True, False])
def test_each_prompt_is_read_once(twin, monkeypatch):
    read = []
    owner = decode.Twin if twin else cached_sampler.ModelDecoder
    begin = owner.begin

    def counting(self, tokens_PS, attend_PS, source_B, *, room):
        read.append((tokens_PS.shape[0], source_B.numel()))
        return begin(self, tokens_PS, attend_PS, source_B, room=room)

    monkeypatch.setattr(owner, "begin", counting)
    sample(policy(), problems(), samples=8, twin=twin)
    assert read == [(len(PROMPTS), 8 * len(PROMPTS))]


@pytest.mark.parametrize("twin", [True, False])
def test_finished_rows_leave_the_batch(twin, monkeypatch):
    """Of the rows of a step, less than one in 8, or less than 4, have finished."""
    rows = []
    owner = decode.Twin if twin else cached_sampler.ModelDecoder
    extend = owner.extend

    def counting(self, tokens_B):
        rows.append(tokens_B.numel())
        return extend(self, tokens_B)

    monkeypatch.setattr(owner, "extend", counting)
    rollouts = sample(policy(), problems(), samples=32, twin=twin)
    for step, decoded in enumerate(rows, start=1):
        still_open = sum(len(r.tokens) > step for r in rollouts)
        assert 0 <= decoded - still_open < max(decoded / 8, 4)
    assert rows[0] > rows[-1]


def test_weights_are_read_anew_at_each_call():
    made = policy()
    kept = CachedSampler(made)
    kept.sample(problems(), samples=2, config=CONFIG, seed=0)
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.mul_(0.9)
    again = kept.sample(problems(), samples=2, config=CONFIG, seed=0)
    assert drawn(again) == drawn(sample(made, problems(), samples=2))
    assert drawn(again) == drawn(sample(made, problems(), samples=2, twin=False))


@pytest.mark.parametrize("twin", [True, False])
def test_dropout_is_off_and_the_mode_put_back(twin):
    made = policy()
    calm = drawn(sample(made, problems(), twin=twin))
    for layer in made.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    made.model.train()
    assert drawn(sample(made, problems(), twin=twin)) == calm
    assert made.model.training


# --- stop strings


@pytest.mark.parametrize("twin", [True, False])
def test_a_stop_string_ends_the_completion(twin):
    """The text is cut before it, the tokens keep it; other rows draw what they drew without."""
    made = policy()
    free = sample(made, problems(), samples=8, twin=twin)
    stop = next(r.text[2:4] for r in free if len(r.text) > 6)  # across two tokens
    config = CONFIG.model_copy(update={"stop": (stop, "never said")})
    stopped = sample(made, problems(), samples=8, config=config, twin=twin)
    hits = 0
    for before, after in zip(free, stopped, strict=True):
        assert after.sampled_logprobs == pytest.approx(before.sampled_logprobs[: len(after.tokens)])
        if stop not in before.text:
            assert drawn([after]) == drawn([before])
            continue
        hits += 1
        assert after.finish == "stop"
        assert after.tokens == before.tokens[: len(after.tokens)]
        assert stop in made.decode(after.tokens)
        assert stop not in made.decode(after.tokens[:-1])
        assert after.text == before.text[: before.text.index(stop)]
    assert 0 < hits < len(free)


def test_a_stop_string_may_end_with_a_space_that_a_lone_token_hides():
    """In "a b" the space belongs to the token of b, which decodes alone to "b"."""
    inner = Tokenizer(models.WordLevel({"<eos>": 0, "▁a": 1, "▁b": 2, "c": 3}, unk_token="<eos>"))
    inner.decoder = decoders.Metaspace()
    spaced = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")
    made = dataclasses.replace(policy(), tokenizer=spaced)
    assert (made.decode([2]), made.decode([1, 2])) == ("b", "a b")
    stops = StopStrings(("a ",), made)
    assert stops.closes_V[2]
    assert stops.ends([3, 1, 2])
    assert not stops.ends([3, 1])
    assert stops.cut("ca b") == "c"


@pytest.mark.parametrize(("stop", "words"), [("", "empty"), ("<eos>", "model.eos_token")])
def test_a_stop_string_that_cannot_work_is_refused(stop, words):
    with pytest.raises(ConfigError, match=words):
        sample(policy(), problems(), config=SampleConfig(stop=(stop,)))


# --- limits and bad input


@pytest.mark.parametrize(("kind", "twin"), PATHS)
def test_the_context_ends_a_completion(kind, twin):
    """Context 64, of which BOS and 59 characters are taken: 4 tokens are left, 40 for another."""
    made = dataclasses.replace(policy(kind), eos_ids=(2,))
    asked = problems(("1" * 59, "2+3"))
    config = SampleConfig(max_new_tokens=40)
    rollouts = sample(made, asked, samples=8, config=config, twin=twin)
    for rollout in rollouts[:8]:
        assert len(rollout.tokens) <= 4
        assert rollout.finish == "length" or len(rollout.tokens) < 4 or rollout.tokens[-1] == 2
    assert any(r.finish == "length" for r in rollouts[:8])
    assert any(len(r.tokens) > 4 for r in rollouts[8:])
    assert drawn(rollouts[8:]) == drawn(sample(made, asked[1:], samples=8, config=config))


@pytest.mark.parametrize(("kind", "twin"), PATHS)
def test_one_full_row_among_many_does_not_outgrow_the_context(kind, twin):
    """It is too few to be dropped for speed; GPT-2 has no position for what it would go on with."""
    made = dataclasses.replace(policy(kind), eos_ids=(2,))
    asked = problems(("1" * 60, *(str(n) for n in range(12))))
    rollouts = sample(made, asked, samples=1, config=SampleConfig(max_new_tokens=20), twin=twin)
    assert len(rollouts[0].tokens) == 3
    assert max(len(r.tokens) for r in rollouts[1:]) == 20


def test_a_prompt_beyond_the_context_is_named():
    with pytest.raises(DataError, match=r"(?s)'p1'.*71 prompt tokens.*63.*do:"):
        sample(policy(), problems(("1", "2" * 70)))


def test_no_samples_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        sample(policy(), problems(), samples=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("twin", [True, False])
def test_diverged_weights_are_an_error(twin, temperature):
    made = policy()
    made.model.lm_head.weight.data[7] = torch.nan
    config = SampleConfig(temperature=temperature)
    with pytest.raises(ModelError, match=r"(?s)'p\d'.*not finite"):
        sample(made, problems(), config=config, twin=twin)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_what_the_cpu_draws():
    on_cpu, on_gpu = policy(), policy()
    on_gpu.model.to("cuda")
    on_gpu = dataclasses.replace(on_gpu, device=torch.device("cuda"))
    for twin in (True, False):
        expected = drawn(sample(on_cpu, problems(), samples=32, twin=twin))
        assert drawn(sample(on_gpu, problems(), samples=32, twin=twin)) == expected
