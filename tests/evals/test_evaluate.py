"""evaluate and compare: from a table of outcomes that we choose to the numbers of eval.json."""

import json

import numpy as np
import pytest

from rekindle.engine.config import SampleConfig
from rekindle.errors import DataError
from rekindle.evals.compare import compare, compare_many, compare_table
from rekindle.evals.evaluate import evaluate
from rekindle.records import Problem, Rollout, Score

NAN = None


class Told:
    """A sampler and task in one: sample s of problem p says table[p][s]; greedy says the first."""

    name, stop, levels, max_new_tokens = "told", (), ("a", "b"), 4

    def __init__(self, table):
        self.table = table

    def sample(self, problems, *, samples, config, seed):
        return [
            Rollout(
                problem=p,
                sample=s,
                prompt_tokens=(1,),
                tokens=(5,),
                sampled_logprobs=(-0.1,),
                text=json.dumps(self.table[p.id][s]),
                finish="eos",
            )
            for p in problems
            for s in range(samples)
        ]

    def grade(self, problem, text):
        value = json.loads(text)
        return Score.missing("timeout") if value is None else Score(float(value))

    def answer_of(self, problem, text):
        return None if text == "null" else text


def run(table, levels=None, samples=4):
    told = Told(table)
    problems = [Problem(id=k, prompt=k, level=(levels or {}).get(k, "a")) for k in table]
    return evaluate(
        problems,
        sampler=told,
        task=told,
        sample_config=SampleConfig(),
        samples=samples,
        seed=0,
        split="test",
        model="m",
    )


TABLE = {"p": [1, 0, 1, 0], "q": [0, 0, 0, 0], "r": [1, 1, 1, 1], "s": [0, NAN, 1, NAN]}
LEVELS = {"p": "a", "q": "a", "r": "b", "s": "b"}


def test_the_structure_and_the_numbers():
    result = run(TABLE, LEVELS)
    assert (result["n_problems"], result["n_samples"]) == (4, 4)
    assert result["outcomes"] == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, None, 1, None]]
    assert result["metrics"]["pass@1"]["value"] == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    # pass@4: p and r have a right answer, q has none, s has too few scored samples
    assert result["metrics"]["pass@4"]["value"] == pytest.approx(2 / 3)
    assert result["metrics"]["pass@4"]["n"] == 3
    assert result["metrics"]["greedy"]["value"] == 0.5
    assert result["missing"] == {"count": 2, "reasons": {"timeout": 2}}
    assert result["levels"]["a"]["n_problems"] == 2
    assert result["levels"]["a"]["metrics"]["pass@1"]["value"] == pytest.approx(0.25)
    for cell in result["metrics"].values():
        assert cell["ci_low"] <= cell["value"] <= cell["ci_high"]
    json.dumps(result, allow_nan=False)


def test_a_level_alone_gives_the_levels_block():
    whole = run(TABLE, LEVELS)
    alone = run({k: TABLE[k] for k in ("r", "s")}, LEVELS)
    assert alone["metrics"] == whole["levels"]["b"]["metrics"]


def test_order_of_problems_is_irrelevant_to_the_values():
    one, other = run(TABLE, LEVELS), run(dict(reversed(TABLE.items())), LEVELS)
    for name, cell in one["metrics"].items():
        assert other["metrics"][name]["value"] == pytest.approx(cell["value"])


def test_one_sample_uses_wilson():
    result = run({str(i): [i % 2] for i in range(20)}, samples=1)
    from rekindle.evals.intervals import wilson

    want = wilson(10, 20)
    cell = result["metrics"]["pass@1"]
    assert (cell["ci_low"], cell["ci_high"]) == pytest.approx((want.ci_low, want.ci_high))


def test_ids_must_differ_and_exist():
    told = Told({"p": [1]})
    problems = [Problem(id="p", prompt=""), Problem(id="p", prompt="")]
    with pytest.raises(DataError, match="twice"):
        evaluate(problems, sampler=told, task=told, sample_config=SampleConfig(), samples=1, seed=0)
    with pytest.raises(DataError, match="no problem"):
        evaluate([], sampler=told, task=told, sample_config=SampleConfig(), samples=1, seed=0)


def random_table(seed, share, n=80):
    rng = np.random.default_rng(seed)
    return {f"p{i}": rng.binomial(1, share, 4).tolist() for i in range(n)}


def test_a_difference_is_the_difference_of_the_means_and_knows_its_sign():
    before, after = run(random_table(0, 0.3)), run(random_table(1, 0.6))
    found = compare(before, after)
    values = [result["metrics"]["pass@1"]["value"] for result in (before, after)]
    assert found.value == pytest.approx(values[1] - values[0])
    assert found.ci_low > 0
    assert found.p_value < 0.01
    back = compare(after, before)
    assert back.value == pytest.approx(-found.value)
    assert compare(before, before)[:4] == (0.0, 0.0, 0.0, 1.0)


def test_all_metrics_and_levels_have_a_row():
    before, after = run(TABLE, LEVELS), run(TABLE, LEVELS)
    rows = compare_table(before, after)
    assert {row.level for row in rows} == {None, "a", "b"}
    assert {"pass@1", "pass@4", "avg@4", "maj@4", "greedy"} <= {row.metric for row in rows}
    assert all(row.change.value == 0 for row in rows)


def test_several_pairs_widen_the_interval_when_they_disagree():
    agree = [(run(random_table(i, 0.3)), run(random_table(i + 9, 0.5))) for i in range(3)]
    gains = [0.3, 0.5, 0.7]
    differ = [(run(random_table(i, 0.3)), run(random_table(i + 9, g))) for i, g in enumerate(gains)]
    one, other = compare_many(agree), compare_many(differ)
    assert other.ci_high - other.ci_low > one.ci_high - one.ci_low
    assert one.n_pairs == 3


def test_other_problems_are_refused_and_the_first_difference_is_named():
    table = random_table(0, 0.5, 5)
    other = {("x" if k == "p2" else k): v for k, v in table.items()}
    with pytest.raises(DataError, match=r"different problems(.|\n)*p2.*x"):
        compare(run(table), run(other))


def test_a_metric_that_was_not_measured_is_refused():
    result = run(random_table(0, 0.5, 5))
    with pytest.raises(DataError, match="not measured"):
        compare(result, result, metric="maj@99")
    with pytest.raises(DataError, match="not evaluated"):
        compare(result, result, level="zzz")
    for metric in ("pass@0", "pass@01", "pass@5", "pass@9", "pass@²", "pass@", "avg@2"):
        with pytest.raises(DataError, match=r"not measured(.|\n)*pass@1"):
            compare(result, result, metric=metric)


def test_both_sides_are_over_what_both_have_and_over_bases_as_the_difference_is():
    before = run({"p": [1], "q": [0], "r": [0], "s": [1]}, samples=1)
    after = run({"p": [1], "q": [1], "r": [NAN], "s": [NAN]}, samples=1)
    found = compare(before, after)
    assert (found.before, found.after, found.value) == (0.5, 1.0, 0.5)
    nothing = run({k: [0] for k in "pqrs"}, samples=1)
    pairs = [(nothing, before), (nothing, nothing), (nothing, nothing)]
    found = compare_many(pairs, bases=["x", "y", "y"])
    assert (found.before, found.after, found.value) == (0.0, 0.25, 0.25)


def test_pairs_of_other_problems_cannot_be_crossed_with_bases():
    one, other = ([run({f"{k}{i}": [i % 2] for i in range(9)}, samples=1)] * 2 for k in "pq")
    assert compare_many([one, other]).value == 0
    with pytest.raises(DataError, match="pairs have different problems"):
        compare_many([one, other], bases=["x", "y"])


def test_other_levels_of_the_same_problems_are_refused():
    with pytest.raises(DataError, match=r"different levels(.|\n)*q: a and b"):
        compare(run(TABLE, LEVELS), run(TABLE, {**LEVELS, "q": "b"}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ([1], r"got:    \[1\](.|\n)*wanted: an object with task"),
        ({"a": 1}, r"no 'task' among \['a'\]"),
        ({"problems": [{"id": "p"}]}, "'problems': an id and a level"),
        ({"outcomes": [[1, 0, 1, 0]]}, "1 rows for 4 problems"),
        ({"outcomes": [["x"]] * 4}, "scores from 0 to 1, or null"),
        ({"majority": [1]}, "'majority': a number or null for each problem"),
    ],
)
def test_what_is_no_evaluation_is_refused_with_its_name(tmp_path, change, says):
    from rekindle.evals.reading import read_eval

    path = tmp_path / "x.json"
    whole = run(TABLE, LEVELS)
    path.write_text(json.dumps(whole))
    assert read_eval(path)["outcomes"] == whole["outcomes"]
    broken = {**whole, **change} if isinstance(change, dict) and change.keys() & whole else change
    path.write_text(json.dumps(broken))
    with pytest.raises(DataError, match=says) as error:
        read_eval(path)
    assert f"{path} is not an evaluation" in str(error.value)


def test_a_file_beside_itself_differs_by_nothing_and_beside_its_copy_it_may(tmp_path, capsys):
    from rekindle.cli.evaluate import compare as compare_files

    for name in ("x.json", "y.json"):
        (tmp_path / name).write_text(json.dumps(run(TABLE, LEVELS)))
    compare_files(tmp_path / "x.json", tmp_path / ".." / tmp_path.name / "x.json")
    assert "[+0.000, +0.000]" in capsys.readouterr().out
    compare_files(tmp_path / "x.json", tmp_path / "y.json")
    assert "[+0.000, +0.000]" not in capsys.readouterr().out
