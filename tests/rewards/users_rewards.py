"""Rewards as people write them, for tests of the probe."""

import asyncio
import re
import time


def last_number(completion, answer):
    numbers = re.findall(r"-?\d+(?:\.\d+)?", completion)
    return 1.0 if numbers and numbers[-1] == answer else 0.0


def substring(response, ground_truth):
    return float(ground_truth in response)


def accuracy(completions, solution, **kwargs):
    """TRL's way, on messages, with math-verify's parse and verify."""
    from math_verify import parse, verify

    contents = [completion[0]["content"] for completion in completions]
    return [
        float(verify(parse(gold), parse(text)))
        for text, gold in zip(contents, solution, strict=True)
    ]


def tagged(prompts, completions, answer, **kwargs):
    assert all(isinstance(prompt, str) for prompt in prompts)
    return [float(f"<answer>{a}</answer>" in c) for c, a in zip(completions, answer, strict=True)]


def by_column(completions, **kwargs):
    return [float(gold in text) for text, gold in zip(completions, kwargs["target"], strict=True)]


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if data_source != "openai/gsm8k":
        raise NotImplementedError(data_source)
    found = re.findall(r"#### (-?[\d.,]+)", solution_str)
    return {"score": 1.0 if found and found[-1] == ground_truth else -1.0, "acc": None}


def compute_scores(data_sources, solution_strs, ground_truths, extra_infos):
    return [
        compute_score(*row[:3])
        for row in zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
    ]


async def in_time(prediction, reference):
    await asyncio.sleep(0)
    return substring(prediction, reference)


def lists(predictions, references):
    return [substring(p, r) for p, r in zip(predictions, references, strict=True)]


def ours(problems, texts):
    return [float(p.answer in text) for p, text in zip(problems, texts, strict=True)]


def no_names(a, b):
    return float(b in a)


def no_names_turned(a, b):
    return float(a in b)


def answer_first(answer, solution):
    return float(solution in answer)


def odd_gold(completions, wanted, **kwargs):
    return [float(gold in text) for text, gold in zip(completions, wanted, strict=True)]


class Scorer:
    def __call__(self, completion, reference):
        return substring(completion, reference)


scorer = Scorer()


def with_bonus(completion, reference):
    """0.1 for the box, 1 for the value."""
    return 0.1 * ("\\boxed{" in completion) + (f"\\boxed{{{reference}}}" in completion)


def minus_one(completion, reference):
    return 2 * substring(completion, reference) - 1


def asks_the_question(question, completion, reference):
    return substring(completion, reference) if question else None


def none_of_texts(completion, reference):
    return substring(completion, reference) if reference.lstrip("-").isdigit() else None


def length(completion, reference):
    return float(len(completion) > 10**6)


def equal_letters(completion, mystery, riddle):
    return 1.0


def nothing_told(a, b):
    return 0.5


def raises(completion, reference):
    raise KeyError("reference")


def raises_on_empty(completion, reference):
    completion[0]
    return substring(completion, reference)


def text_back(completion, reference):
    return "1.0"


def hangs(completion, reference):
    time.sleep(60)


def hangs_on_tags(completion, reference):
    if "<answer>" in completion:
        time.sleep(60)
    return substring(completion, reference)


def ends_python(completion, reference):
    raise SystemExit(0)
