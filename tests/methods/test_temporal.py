"""Self-rewarding and temporal self-rewarding: the pair rules by hand, and runs end to end."""

import itertools
import json
import random
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file

import tiny
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError, RunDirectoryError, TrainingError
from rekindle.loops import world as world_module
from rekindle.methods.self_rewarding import self_rewarding, temporal
from rekindle.rewards.judge import FORMATS, CallableJudge
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


def answers(prefix, *values):
    return [{"text": f"{prefix}{i}", "score": value} for i, value in enumerate(values)]


def row(current, initial=None, future=None, name="p"):
    return {
        "id": name,
        "prompt": "x",
        "current": answers("c", *current),
        "initial": None if initial is None else answers("i", *initial),
        "future": None if future is None else answers("f", *future),
    }


def texts(pick):
    return None if pick is None else (pick["chosen"], pick["rejected"])


def explained(module, rows, **settings):
    config = module.PRESETS[module.__name__.rsplit(".", 1)[-1]].model_copy(update=settings)
    return module.explain_pairs(rows, config)


# current, initial, future -> d1, d2: the strict inequalities of algorithm 1, ties to the current
CASES = [
    ((3, 1, 5), (2, 0, 4), (4, 6, 1), ("c2", "i1"), ("f1", "i1")),
    ((3, 1, 5), (1, 1, 4), (5, 2, 1), ("c2", "c1"), ("c2", "c1")),  # both ties: the current's
    ((3, 3, 3), (3, 3, 3), (3, 3, 3), None, None),  # all equal
    ((3, 3, 3), (3, 4, 3), (5, 3, 3), None, ("f0", "c0")),  # in D2 without being in D1
    ((2, 2), (1, 5), (2, 2), ("c0", "i0"), ("c0", "i0")),
    ((None, 1, 5), (2, None), (None, 6), ("c2", "c1"), ("f1", "c1")),  # missing is missing
    ((None, None), (1, 2), (5,), None, None),  # no current judgement: no prompt
    ((1, 2), (None, None), (5,), None, None),  # nor an initial one
    ((1, 2), (0, 1), (None, None), ("c1", "i0"), ("c1", "i0")),  # nothing readable ahead
    ((1, 2), (0, 1), (), ("c1", "i0"), ("c1", "i0")),
    ((0, -1), (-2,), (0.5,), ("c0", "i0"), ("f0", "i0")),  # a reward model's scale
]


@pytest.mark.parametrize(("current", "initial", "future", "d1", "d2"), CASES)
def test_pairs_of_algorithm_1(current, initial, future, d1, d2):
    out, _ = explained(temporal, [row(current, initial, future)])
    assert (texts(out[0]["d1"]), texts(out[0]["d2"])) == (d1, d2)


def test_before_the_future_model_there_is_no_second_pair():
    out, skipped = explained(temporal, [row((1, 5), (0, 2))])
    assert texts(out[0]["d1"]) == ("c1", "i0")
    assert out[0]["d2"] is None
    assert not skipped


@pytest.mark.parametrize(("current", "initial", "future", "d1", "d2"), CASES)
def test_both_switches_off_is_self_rewarding(current, initial, future, d1, d2):
    asked = row(current, initial, future)
    off, _ = explained(temporal, [asked], past=False, future=False)
    plain, _ = explained(self_rewarding, [asked])
    assert off == plain
    assert plain[0]["d2"] is None


def test_without_the_future_it_is_the_papers_past_only():
    out, _ = explained(temporal, [row((3, 1, 5), (2, 0, 4), (9,))], future=False)
    assert texts(out[0]["d1"]) == ("c2", "i1")
    assert out[0]["d2"] is None


def test_invariants_over_random_scores():
    rng = random.Random(0)

    def some():
        return [rng.choice([None, 0, 1, 2, 3, 4, 5]) for _ in range(rng.randint(1, 7))]

    rows = [row(some(), some(), some(), name=str(i)) for i in range(2000)]
    out, _ = explained(temporal, rows)
    for asked, found in zip(rows, out, strict=True):
        score = {
            c["text"]: c["score"] for c in asked["current"] + asked["initial"] + asked["future"]
        }
        known = {
            side: [c["score"] for c in asked[side] if c["score"] is not None]
            for side in ("current", "initial", "future")
        }
        if found["d1"] is not None:
            assert found["d2"] is not None  # D2 holds D1's prompts
            assert score[found["d1"]["chosen"]] == max(known["current"])
            assert score[found["d1"]["rejected"]] == min(known["current"] + known["initial"])
        if found["d2"] is not None:
            assert score[found["d2"]["chosen"]] == max(known["current"] + known["future"])
            assert score[found["d2"]["chosen"]] > score[found["d2"]["rejected"]]


def test_pairs_do_not_depend_on_the_order_of_rows_or_on_the_others():
    rows = [row(c, i, f, name=str(n)) for n, (c, i, f, _, _) in enumerate(CASES)]
    whole = {r["id"]: r for r in explained(temporal, rows)[0]}
    for asked in itertools.chain(reversed(rows)):
        assert explained(temporal, [asked])[0] == [whole[asked["id"]]]


def test_the_length_rule_takes_the_shortest_of_the_best():
    asked = row((5, 5, 1))
    asked["current"][0]["text"] = "long"
    asked["current"][1]["text"] = "s"
    assert texts(explained(self_rewarding, [asked])[0][0]["d1"])[0] == "long"
    assert texts(explained(self_rewarding, [asked], ties="shortest")[0][0]["d1"])[0] == "s"


def test_an_answer_that_was_cut_off_is_rejected_at_most():
    asked = row((5, 4, 1))
    asked["current"][0]["finish"] = "length"
    assert texts(explained(self_rewarding, [asked])[0][0]["d1"]) == ("c1", "c2")
    assert texts(explained(self_rewarding, [asked], choose_cut=True)[0][0]["d1"])[0] == "c0"


def test_reasons_are_counted():
    same = row((5, 1))
    same["current"][0]["text"] = same["current"][1]["text"] = "x"
    empty = row((5, 1))
    empty["current"][0]["text"] = " "
    out, skipped = explained(self_rewarding, [row((3, 3)), row((None,)), same, empty])
    assert [r["d1"] for r in out] == [None] * 4
    assert skipped == {
        "d1: equal scores": 1,
        "d1: no answer with a judgement": 1,
        "d1: chosen is rejected": 1,
        "d1: chosen is empty": 1,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": None}, "no 'id'"),
        ({"current": None}, "no usable 'current'"),
        ({"initial": None}, "no usable 'initial'"),
        ({"current": [{"score": 1}]}, "is no candidate"),
        ({"current": [{"text": "x", "score": "5"}]}, "no usable score"),
        ({"current": [{"text": "x", "score": float("nan")}]}, "no usable score"),
        ({"current": [{"text": "x", "score": True}]}, "no usable score"),
    ],
)
def test_unusable_rows_are_named(change, words):
    with pytest.raises(DataError, match=words):
        explained(temporal, [{**row((1, 2), (1, 2), (1, 2)), **change}])


# --- runs


def length_judge(asked):
    """Longer is better, up to 5; one text in four has no judgement."""
    return [None if len(text) % 4 == 3 else float(min(len(text), 5)) for _, text in asked]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A directory with a model and data; nobody writes into it."""
    place = tmp_path_factory.mktemp("start")
    tiny.policy().save(place / "base")
    lines = [{"id": f"p{i}", "prompt": f"{i}=", "answer": "1", "solution": "12"} for i in range(60)]
    (place / "data.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return place


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory):
    """One run of both rounds, from start to end."""
    out = tmp_path_factory.mktemp("temporal") / "run"
    run(recipe(base), out)
    return out


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    """The same of self-rewarding."""
    out = tmp_path_factory.mktemp("self-rewarding") / "run"
    run(recipe(base, "self_rewarding"), out)
    return out


def recipe(base, method="temporal", *, optim=None, **settings):
    section = "self_rewarding" if method == "self_rewarding" else "temporal"
    return make_recipe(
        {
            "method": method,
            "seed": 1,
            "model": {"name": str(base / "base"), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(base / "data.jsonl")},
            "sample": {"max_new_tokens": 6},
            "optim": {"steps": 4, "problems": 3, "lr": 1e-2, **(optim or {})},
            "eval": {"problems": 2, "samples": 1},
            "checkpoint": {"every": 1},
            section: {
                "iterations": 2,
                "prompts": 8,
                "candidates": 4,
                "choose_cut": True,
                "judge": {"source": "callable", "max_missing": 1.0},
                **settings,
            },
        }
    )


def run(asked, out, **settings):
    train(asked, out, quiet=True, judge=CallableJudge(length_judge, "length"), **settings)
    return load_file(out / "final" / "model.safetensors")


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def stage(out, name):
    place = next(p for p in (out / "stages").iterdir() if p.name.split("-", 1)[-1] == name)
    return [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]


def loaded(place):
    config = tiny.policy().config
    return Policy.load(config.model_copy(update={"name": str(place)}))


def test_temporal_end_to_end(base, straight):
    out = straight
    names = [p.name for p in sorted((out / "stages").iterdir()) if p.is_dir()]
    once = ["candidates", "initial", "judged", "pairs", "future", "ahead", "judged-ahead"]
    each = [*once, "pairs-next", "dpo"]
    assert [name.split("-", 1)[1] for name in names] == [f"{n}-{i}" for i in (1, 2) for n in each]
    # provenance: who wrote what, and who judged
    start, first = (
        weights_fingerprint(loaded(p)) for p in (base / "base", out / "stages/09-dpo-1/final")
    )
    future = weights_fingerprint(loaded(out / "stages/14-future-2/final"))
    assert {r["source"] for r in stage(out, "candidates-2")} == {first}
    assert {r["source"] for r in stage(out, "initial-2")} == {start}
    assert {r["source"] for r in stage(out, "ahead-2")} == {future}
    for pair in stage(out, "pairs-2"):
        assert pair["chosen_source"] == first
        assert pair["rejected_source"] in (start, first)
    for pair in stage(out, "pairs-next-2"):
        assert pair["chosen_source"] in (first, future)
    # both DPO runs begin with the current model
    for name in ("05-future-1", "09-dpo-1"):
        manifest = json.loads((out / "stages" / name / "manifest.json").read_text())
        assert manifest["fingerprints"]["start"] == start
    rounds = [json.loads(x) for x in (out / "stages" / "rounds.jsonl").read_text().splitlines()]
    assert [r["spent/dpo_runs"] for r in rounds] == [2, 4]
    assert [r["spent/updates"] for r in rounds] == [2, 4]
    for name in ("judge/auc", "judge/tie_rate", "pairs/gap", "pairs/similarity", "pairs/cosine"):
        assert name in rounds[0]


def test_both_off_is_self_rewarding_bit_for_bit(base, plain, tmp_path):
    off = run(recipe(base, past=False, future=False), tmp_path / "off")
    assert same(load_file(plain / "final" / "model.safetensors"), off)
    for name in ("candidates-2", "judged-2", "pairs-2"):
        assert stage(plain, name) == stage(tmp_path / "off", name)


def test_prompts_of_rounds_are_disjoint(plain):
    one, two = ({r["id"] for r in stage(plain, f"candidates-{i}")} for i in (1, 2))
    assert len(one) == len(two) == 8
    assert not one & two


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_resume_is_bit_exact_and_makes_nothing_again(base, straight, tmp_path, monkeypatch, stop):
    real, calls = world_module.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world_module, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        run(recipe(base), tmp_path / "broken")
    monkeypatch.setattr(world_module, "update", real)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "broken").rglob("rows.jsonl")}
    whole = load_file(straight / "final" / "model.safetensors")
    assert same(whole, run(recipe(base), tmp_path / "broken", mode="resume"))
    assert all(p.stat().st_mtime_ns == then for p, then in written.items())


def test_a_changed_text_is_found_on_resume(base, tmp_path, monkeypatch):
    real = world_module.update
    monkeypatch.setattr(
        world_module, "update", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        run(recipe(base), tmp_path / "run")
    monkeypatch.setattr(world_module, "update", real)
    place = tmp_path / "run" / "stages" / "01-candidates-1" / "rows.jsonl"
    place.write_text(place.read_text().replace('"text": "', '"text": "x', 1))
    with pytest.raises(RunDirectoryError, match="was changed"):
        run(recipe(base), tmp_path / "run", mode="resume")


def test_ties_everywhere_stop_before_training_on_nothing(base, tmp_path):
    judge = CallableJudge(lambda asked: [3.0] * len(asked), "flat")
    with pytest.raises(DataError, match=r"no pair is left in round 1(.|\n)*equal scores"):
        train(recipe(base), tmp_path / "run", quiet=True, judge=judge)
    assert not list((tmp_path / "run" / "stages").glob("*future*"))


def test_a_judge_that_would_not_be_asked_is_refused(base, tmp_path):
    judge = CallableJudge(length_judge, "length")
    asked = recipe(base, judge={"source": "self", "format": "marker"})
    with pytest.raises(ConfigError, match="a judge was given") as caught:
        train(asked, tmp_path / "run", quiet=True, judge=judge)
    assert "got:    judge.source self" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_too_many_missing_judgements_stop_the_run_and_are_kept(base, tmp_path):
    calls = []

    def mute(asked):
        calls.append(len(asked))
        return [None] * len(asked)

    judge = CallableJudge(mute, "mute")
    asked = recipe(base, judge={"source": "callable", "max_missing": 0.5})
    said = r"too many answers have no judgement(.|\n)*stage 'judged-1'"
    for mode in ("new", "resume"):
        with pytest.raises(TrainingError, match=said):
            train(asked, tmp_path / "run", quiet=True, judge=judge, mode=mode)
    assert {row["reason"] for row in stage(tmp_path / "run", "judged-1")} == {"the judge gave none"}
    assert calls == [2 * 8 * 4], "what was judged is not judged again"


def test_the_model_judges_itself_after_its_seed(base, tmp_path):
    """A tiny model knows nothing; the stages, their order and provenance are what counts."""
    asked = recipe(
        base,
        "self_rewarding",
        iterations=1,
        optim={"steps": 2},
        seed={"steps": 40, "instructions": 4, "judged": 6, "answers": 2, "lr": 3e-2},
        judge={"source": "self", "format": "marker", "samples": 2, "max_missing": 1.0},
        replay=1,
    )
    with suppress(DataError):  # such a judge may find no pair
        train(asked, tmp_path / "run", quiet=True)
    names = sorted(p.name for p in (tmp_path / "run" / "stages").iterdir() if p.is_dir())
    assert names[:4] == ["01-judge-data", "02-seed", "03-candidates-1", "04-judged-1"]
    seeded = weights_fingerprint(loaded(tmp_path / "run" / "stages" / "02-seed" / "final"))
    judged = stage(tmp_path / "run", "judged-1")
    assert {r["source"] for r in judged} == {seeded}
    assert len(judged) == 8 * 4
    assert all(len(r["replies"]) in (0, 2) for r in judged)


@pytest.fixture
def judge_rows(tmp_path, monkeypatch):
    """As a run's judge-data stage leaves them; tiny models have no room for the long prompt."""
    monkeypatch.setitem(FORMATS, "additive", FORMATS["marker"])
    row = {"id": "x", "prompt": "1=", "text": "1", "reply": "5", "points": 5, "source": "abc"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


def directories(out):
    return sorted(p.name for p in (out / "stages").iterdir() if p.is_dir())


def test_seed_data_are_replayed_to_a_model_that_was_seeded_elsewhere(base, tmp_path, judge_rows):
    seed = {"steps": 0, "path": str(judge_rows), "instructions": 4}
    asked = recipe(base, seed=seed, replay=2)
    replayed = run(asked, tmp_path / "replayed")
    names = directories(tmp_path / "replayed")
    assert [name for name in names if "replay" in name] == ["10-replay-1", "20-replay-2"]
    assert not [name for name in names if "seed" in name or "judge-data" in name]
    without = recipe(base, seed={**seed, "instructions": 5}, replay=2)
    assert not same(replayed, run(without, tmp_path / "other")), "instructions are replayed too"


def test_judge_data_from_a_file_seed_a_run(base, tmp_path, judge_rows):
    seed = {"steps": 2, "path": str(judge_rows), "instructions": 4}
    run(recipe(base, seed=seed), tmp_path / "run")
    assert directories(tmp_path / "run")[:2] == ["01-seed", "02-candidates-1"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"judge": {"source": "endpoint"}}, "needs judge.url"),
        ({"judge": {"url": "http://x"}}, "no effect with judge.source: self"),
        ({"judge": {"source": "endpoint", "url": "http://a:b@x", "model": "m"}}, "a user name or"),
        ({"judge": {"source": "endpoint", "url": "x:80", "model": "m"}}, "judge.url is not an"),
        ({"judge": {"source": "endpoint", "key_env": "sk-1"}}, "judge.key_env is not the name"),
        ({"replay": 3}, "nothing to replay"),
    ],
)
def test_settings_that_nobody_can_mean_are_refused(base, settings, words):
    with pytest.raises(ConfigError, match=words):
        recipe(base, **settings)


def test_too_few_prompts_for_disjoint_rounds_is_an_error(base, tmp_path):
    with pytest.raises(DataError, match="too few training problems"):
        run(recipe(base, prompts=500), tmp_path / "run")
