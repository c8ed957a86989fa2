"""Reward models in process: what a score is, and what must not change it."""

import json
import math

import pytest
import torch
from scipy import stats
from transformers import AutoModelForSequenceClassification, BertConfig

import tiny
from rekindle.errors import ModelError
from rekindle.records import Problem, Score
from rekindle.rewards.controls import RandomScores
from rekindle.rewards.reward_model import CachedScorer, ScalarHead, text_key

TEXTS = ["1", "12", "3+4=7;7*2=14", "abc", "9" * 30, "1;2;3"]
ASKED = [(Problem(id=f"p{i}", prompt=f"{i}+1=" * (i + 1)), text) for i, text in enumerate(TEXTS)]


def scalar(kind="llama", *, labels=1, seed=0, tok=None, **changes):
    torch.manual_seed(seed)
    config = tiny.config_of(kind)
    config.num_labels = labels
    for name, value in changes.items():
        setattr(config, name, value)
    model = AutoModelForSequenceClassification.from_config(config).double()
    return model, tok if tok is not None else tiny.tokenizer()


def head(kind="llama", **settings):
    batch = settings.pop("batch_tokens", 1000)
    return ScalarHead.of(*scalar(kind, **settings), name="tiny", batch_tokens=batch)


def values(scores):
    return torch.tensor([score.value for score in scores], dtype=torch.float64)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_a_score_is_the_head_at_the_last_token_of_prompt_answer_end(kind):
    """Against the trunk and the head called apart, one unpadded row at a time."""
    made = head(kind)
    trunk = made.model.transformer if kind == "gpt2" else made.model.model
    for (problem, text), score in zip(ASKED, made.score(ASKED), strict=True):
        tokens = [1, *(tiny.VOCABULARY[c] for c in problem.prompt + text), 2]
        hidden = trunk(torch.tensor([tokens])).last_hidden_state[0, -1]
        expected = float((hidden @ made.model.score.weight[0]).detach())
        assert score.value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_scores_do_not_depend_on_batches_or_order(batch_tokens):
    alone = values(head(batch_tokens=1).score(ASKED))
    order = [3, 0, 5, 1, 4, 2]
    mixed = values(head(batch_tokens=batch_tokens).score([ASKED[i] for i in order]))
    torch.testing.assert_close(mixed, alone[order], atol=1e-12, rtol=0)


def test_what_does_not_fit_is_missing_with_the_reason_and_the_rest_is_scored():
    long = (Problem(id="long", prompt="1+1="), "7" * 100)
    scores = head().score([ASKED[0], long, ASKED[1]])
    assert scores[1] == Score.missing("longer than the reward model's 64 tokens")
    torch.testing.assert_close(values([scores[0], scores[2]]), values(head().score(ASKED[:2])))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_missing(bad):
    made = head()
    with torch.no_grad():
        made.model.score.weight.fill_(bad)
    assert all(score.value is None and score.reason for score in made.score(ASKED))


def test_another_tokenizer_and_its_chat_template():
    """The policy's tokens play no part: text is encoded as the reward model wants it."""
    tok = tiny.tokenizer(bos=False)
    tok.chat_template = tiny.CHAT_TEMPLATE
    made = head(tok=tok)
    expected = [tiny.VOCABULARY[c] for c in "u:12+3=;a:15;"]
    assert list(made.encode(Problem(id="x", prompt="12+3="), "15")) == expected
    chat = Problem(id="y", prompt="", messages=(("system", "abc"), ("user", "1")))
    assert list(made.encode(chat, "2")) == [tiny.VOCABULARY[c] for c in "s:abc;u:1;a:2;"]


def test_encoders_read_prompt_and_answer_as_a_pair():
    from tokenizers import processors

    tok = tiny.tokenizer(bos=False, cls_token="<bos>", sep_token="<eos>")
    tok.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        pair="<bos> $A <eos> $B <eos>",
        special_tokens=[("<bos>", 1), ("<eos>", 2)],
    )
    config = BertConfig(
        vocab_size=len(tiny.VOCABULARY), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, num_labels=1, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).double()
    made = ScalarHead.of(model, tok, name="bert")
    assert list(made.encode(Problem(id="x", prompt="1+"), "2")) == [
        1, tiny.VOCABULARY["1"], tiny.VOCABULARY["+"], 2, tiny.VOCABULARY["2"], 2
    ]  # fmt: skip
    together, alone = made.score(ASKED), [made.score([one])[0] for one in ASKED]
    torch.testing.assert_close(values(together), values(alone), atol=1e-12, rtol=0)


def test_two_labels_are_refused():
    with pytest.raises(ModelError, match="2 labels"):
        head(labels=2)


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
def test_a_reward_model_that_pads_with_its_end_token_scores_as_plain_transformers_do(batch_tokens):
    """It reads the score at the last token that is not its end token, and so does the class."""
    made = head(tok=tiny.tokenizer(pad_token="<eos>"), pad_token_id=2, batch_tokens=batch_tokens)
    for (problem, text), score in zip(ASKED, made.score(ASKED), strict=True):
        tokens = torch.tensor([made.encode(problem, text)])
        hidden = made.model.model(tokens[:, :-1]).last_hidden_state[0, -1]
        expected = float((hidden @ made.model.score.weight[0]).detach())
        assert score.value == pytest.approx(expected, abs=1e-12)
        assert score.value == pytest.approx(float(made.model(tokens).logits.detach()), abs=1e-12)


def test_no_pad_token_is_refused():
    tok = tiny.tokenizer()
    tok.pad_token = None
    with pytest.raises(ModelError, match="no pad token"):
        head(tok=tok, pad_token_id=None)


def test_the_pad_id_of_the_model_is_used_where_the_tokenizer_has_another():
    """The model reads the score at the last token that is not its own pad id."""
    tok = tiny.tokenizer(pad_token="<unk>")
    torch.testing.assert_close(
        values(head(tok=tok).score(ASKED)), values(head().score(ASKED)), atol=1e-12, rtol=0
    )


def test_ids_that_the_model_lacks_are_refused():
    with pytest.raises(ModelError, match="ids that its model lacks"):
        head(vocab_size=20)


def test_a_saved_model_scores_the_same(tmp_path):
    made = head()
    made.save(tmp_path)
    loaded = ScalarHead.load(str(tmp_path), dtype=torch.float64)
    torch.testing.assert_close(values(loaded.score(ASKED)), values(made.score(ASKED)))
    before = loaded.fingerprint()
    with torch.no_grad():
        made.model.score.weight.mul_(2)
    made.save(tmp_path)
    assert ScalarHead.load(str(tmp_path), dtype=torch.float64).fingerprint() != before


def test_a_policy_is_no_reward_model_but_its_trunk_can_become_one(tmp_path):
    tiny.policy().save(tmp_path)
    with pytest.raises(ModelError, match="no trained reward head"):
        ScalarHead.load(str(tmp_path))
    made = ScalarHead.load(str(tmp_path), dtype=torch.float64, fresh_head=True)
    assert all(math.isfinite(score.value) for score in made.score(ASKED))


def test_a_missing_tokenizer_is_named(tmp_path):
    model, _ = scalar()
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer of reward model"):
        ScalarHead.load(str(tmp_path))


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="there is no reward model at"):
        ScalarHead.load(str(tmp_path / "none"))


def test_a_shipped_policy_gives_a_clear_error():
    from rekindle import testbed

    with pytest.raises(ModelError, match="rekindle reward train"):
        ScalarHead.load(str(testbed.resolve("testbed/countdown-s0")))


class Counting:
    def __init__(self):
        self.seen = []

    def score(self, asked):
        self.seen.append([text for _, text in asked])
        return [
            Score.missing("broken") if text == "bad" else Score(float(len(self.seen)))
            for _, text in asked
        ]

    def fingerprint(self):
        return "counting"


def asked(*texts):
    return [(Problem(id=f"id-{i}", prompt="1+1="), text) for i, text in enumerate(texts)]


def test_equal_texts_are_asked_once_and_get_the_same_score():
    inner = Counting()
    once = CachedScorer(inner)
    assert [s.value for s in once.score(asked("a", "b", "a"))] == [1.0, 1.0, 1.0]
    assert inner.seen == [["a", "b"]]
    assert once.score(asked("a"))[0].value == 2.0  # nothing is kept between calls


def test_remembered_texts_are_bounded_and_missing_ones_are_asked_again():
    inner = Counting()
    once = CachedScorer(inner, keep=2)
    once.score(asked("a", "bad"))
    assert [s.value for s in once.score(asked("a", "bad"))] == [1.0, None]
    assert inner.seen[1] == ["bad"]
    once.score(asked("b", "c"))  # "a" goes
    once.score(asked("a"))
    assert inner.seen[-1] == ["a"]


def test_the_key_of_a_text_knows_where_prompt_and_answer_part():
    one = text_key(Problem(id="1", prompt="ab"), "c")
    assert one == text_key(Problem(id="2", prompt="ab"), "c")
    assert one != text_key(Problem(id="1", prompt="a"), "bc")
    assert one != text_key(Problem(id="1", prompt="ab", messages=(("user", "c"),)), "c")
    text_key(Problem(id="1", prompt="\ud800"), "half a character")


def test_random_scores_are_standard_normal_and_belong_to_the_text():
    many = asked(*(str(i) for i in range(4000)))
    scores = [score.value for score in RandomScores(0).score(many)]
    assert stats.kstest(scores, "norm").pvalue > 0.01
    assert [s.value for s in RandomScores(0).score(many[::-1])] == scores[::-1]
    other = [score.value for score in RandomScores(1).score(many)]
    assert abs(stats.pearsonr(scores, other).statistic) < 0.05


def test_scores_are_json(tmp_path):
    json.dumps([score.value for score in head().score(ASKED)])
