"""Chat templates as models bring them: what a prompt is, what an answer is, what is refused.

The templates are short ones of our own in the style of well-known families.
"""

import dataclasses
import re

import pytest
from jinja2.exceptions import TemplateError

import tiny
from rekindle import testbed
from rekindle.chat import ChatTemplate
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import ModelConfig, SampleConfig
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError, ModelError
from rekindle.records import Problem
from rekindle.rewards.reward_model import ScalarHead

# ChatML; an answer's thought is written anew, an empty one where it has none.
QWEN = """
{%- for m in messages %}
  {%- if m.role == 'assistant' and loop.last %}
    {%- set thought = m.content.split('</think>')[0].split('<think>')[-1] %}
    {%- if '</think>' not in m.content %}{% set thought = '' %}{% endif %}
    {{- '[assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
    {{- m.content.split('</think>')[-1].lstrip('\\n') + ']\\n' }}
  {%- else %}{{ '[' + m.role + '\\n' + m.content + ']\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '[assistant\\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
  {%- endif %}
{%- endif %}"""
# The prompt opens a thought; an answered turn has none.
DEEPSEEK = """
{%- for m in messages %}
  {%- if m.role == 'system' %}{{ m.content }}
  {%- elif m.role == 'user' %}{{ '<U>' + m.content }}
  {%- else %}{{ '<A>' + m.content.split('</think>')[-1] + '<end>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<A><think>\\n' }}{% endif %}"""
# As before, without the open thought.
STRIPS = DEEPSEEK.replace("<A><think>\\n", "<A>")
LLAMA = """
{%- if not date_string is defined %}
  {%- if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}
  {%- else %}{% set date_string = '26 Jul 2024' %}{% endif %}
{%- endif %}
{{- '[system: today is ' + date_string + ']' }}
{%- for m in messages %}{{ '[' + m.role + ':' + m.content | trim + ']' }}{% endfor %}
{%- if add_generation_prompt %}{{ '[assistant:' }}{% endif %}"""
GEMMA = """
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('Conversation roles must alternate user/assistant') }}
  {%- endif %}
  {{- '[' + m.role + ':' + m.content | trim + ']' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant:' }}{% endif %}"""
# The system text stands in the last user's turn, where that is the last turn.
MISTRAL = """
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}
  {%- set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}
{%- for m in turns %}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('After the optional system message, roles must alternate') }}
  {%- endif %}
  {%- if m.role == 'user' %}
    {{- '[I] ' + (system + ' ' if loop.last and system is defined else '') + m.content + ' [/I]' }}
  {%- else %}{{ ' ' + m.content + '</s>' }}{% endif %}
{%- endfor %}"""

ASKED = Problem(id="p7", prompt="1+2=?")
CHAT = (("user", "hi"), ("assistant", "yes"), ("user", "1+2"))


@pytest.fixture(scope="module")
def tiny_model():
    return tiny.model()


@pytest.fixture
def policy_of(tiny_model):
    """A policy with a template; its tokens are characters, of any text."""

    def make(template, **settings):
        tok = _Characters(template)
        config = ModelConfig(**{"name": "style", "device": "cpu", **settings})
        return dataclasses.replace(Policy.of(tiny_model, tok, config), context=1000)

    return make


class _Characters:
    """The testbed's tokenizer as far as templates go; a token is a character of any text."""

    bos_token_id, eos_token_id, pad_token_id = None, 1, 0
    bos_token, eos_token, pad_token, unk_token = None, "\x01", "\x00", None

    def __init__(self, template):
        self.inner = characters_of_the_testbed()
        self.inner.chat_template = template

    chat_template = property(lambda self: self.inner.chat_template)
    special_tokens_map = property(lambda self: self.inner.special_tokens_map)

    def __len__(self):
        return 2

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [ord(c) for c in text]}

    def decode(self, tokens, **how):
        return "".join(map(chr, tokens))

    def get_chat_template(self, tools=None):
        return self.inner.get_chat_template(tools=tools)

    def get_vocab(self):
        return {"\x00": 0, "\x01": 1}

    def apply_chat_template(
        self, conversation, add_generation_prompt=False, tokenize=True, return_dict=True, **how
    ):
        how["add_generation_prompt"] = add_generation_prompt
        text = self.inner.apply_chat_template(conversation, tokenize=False, **how)
        return self(text) if tokenize else text


def characters_of_the_testbed():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(testbed.located("testbed/countdown-s0"))


def asked(policy, problem=ASKED):
    return policy.decode(policy.encode_prompt(problem))


def answered(policy, text, problem=ASKED):
    """The answer's text; its last token is the end token, which templates here do not write."""
    *tokens, end = policy.encode_completion(problem, text)
    assert end == policy.eos_id
    return policy.decode(tokens)


# --- a template that refuses


@pytest.mark.parametrize(
    ("template", "messages", "words", "advice"),
    [
        (GEMMA, (("system", "s"), ("user", "u")), "System role not supported", "leave the system"),
        (GEMMA, (("user", "u"), ("user", "v")), "roles must alternate", "take turns"),
        (GEMMA, (("assistant", "a"), ("user", "v")), "roles must alternate", "take turns"),
        (MISTRAL, (("user", "u"), ("user", "v")), "roles must alternate", "take turns"),
        ("{{ messages[0].tools.name }}", (("user", "u"),), "has no attribute 'tools'", "mend"),
        ("{{ nothing.at_all }}", (("user", "u"),), "'nothing' is undefined", "never"),
        ("{{ 1 / 0 }}", (("user", "u"),), "ZeroDivisionError", "mend"),
        ("{{ messages[0].content + 1 }}", (("user", "u"),), "TypeError", "mend"),
        ("{{ range(10**9) | list }}", (("user", "u"),), "OverflowError", "mend"),
        ("{{ raise_exception('') }}", (("user", "u"),), "roles are user", "mend"),
    ],
)
def test_what_a_template_refuses_is_an_error_with_its_words_and_advice(
    policy_of, template, messages, words, advice
):
    problem = Problem(id="p7", prompt="u", messages=messages)
    for call in (asked, lambda policy, it: policy.encode_completion(it, "3")):
        with pytest.raises(DataError, match=r"problem 'p7'.*'style' refuses") as error:
            call(policy_of(template), problem)
        assert re.search(rf"{re.escape(words)}(.|\n)*do: .*{advice}", str(error.value))


def test_an_assertion_of_a_tokenizer_is_an_error_of_ours(policy_of, monkeypatch):
    policy = policy_of(LLAMA)

    def refuses(*_, **__):
        raise AssertionError("only one turn")

    monkeypatch.setattr(policy.tokenizer, "apply_chat_template", refuses)
    with pytest.raises(DataError, match="AssertionError: only one turn"):
        policy.encode_prompt(ASKED)


def test_advice_on_a_system_turn_is_given_only_where_it_helps(policy_of):
    """Without its system turn this one would be refused as well."""
    chat = (("system", "s"), ("user", "u"), ("user", "v"))
    with pytest.raises(DataError, match="take turns"):
        asked(policy_of(GEMMA), Problem(id="p", prompt="v", messages=chat))


def test_a_template_that_is_no_template_is_the_models_fault(policy_of):
    with pytest.raises(ModelError, match=r"'style' cannot be read(.|\n)*line 1"):
        asked(policy_of("{% for m in messages %}"))


def test_a_reward_models_template_is_treated_alike():
    tok = characters_of_the_testbed()
    tok.chat_template = GEMMA
    head = object.__new__(ScalarHead)
    vars(head).update(tokenizer=tok, name="rm")
    problem = Problem(id="p7", prompt="u", messages=(("system", "s"), ("user", "u")))
    with pytest.raises(DataError, match=r"problem 'p7'.*reward model 'rm' refuses"):
        head.encode(problem, "3")


# --- system turns


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_rows_own_system_turn_replaces_the_models(policy_of, role, capsys):
    policy = policy_of(LLAMA, system="be brief")
    own = Problem(id="p", prompt="u", messages=((role, "be long"), ("user", "u")))
    assert f"[{role}:be long][user:u]" in asked(policy, own)
    assert "brief" not in asked(policy, own)
    assert "[system:be brief][user:1+2=?]" in asked(policy)
    assert "be brief" in asked(policy, Problem(id="p", prompt="1+2", messages=CHAT))


def test_that_it_replaces_it_is_said_once(policy_of, capsys):
    from rekindle.engine import progress as module

    module.say_once.cache_clear()
    policy = policy_of(QWEN, system="be brief")
    own = Problem(id="p", prompt="u", messages=(("system", "be long"), ("user", "u")))
    for _ in range(3):
        policy.encode_prompt(own)
        policy.encode_prompt(ASKED)
    assert capsys.readouterr().err.count("system turn of their own") == 1


def test_that_a_system_message_has_no_effect_without_a_template_is_said_once(policy_of, capsys):
    from rekindle.engine import progress as module

    module.say_once.cache_clear()
    policy = policy_of(LLAMA, system="be brief", chat_template="never")
    assert [asked(policy) for _ in range(2)] == [ASKED.prompt] * 2
    assert capsys.readouterr().err.count("model.system has no effect") == 1


# --- dates


def test_a_date_is_the_same_on_every_day_and_is_told_once(policy_of, capsys):
    from rekindle.engine import progress as module

    module.say_once.cache_clear()
    policy = policy_of(LLAMA)
    assert "today is 26 Jul 2024" in asked(policy)
    policy.encode_completion(ASKED, "3")
    assert capsys.readouterr().err.count("writes the date: it is 2024-07-26") == 1


def test_a_date_can_be_set(policy_of, capsys):
    assert "today is 02 Jan 2026" in asked(policy_of(LLAMA, template_date="2026-01-02"))
    capsys.readouterr()
    args = {"date_string": "1 May"}
    assert "today is 1 May]" in asked(policy_of(LLAMA, template_args=args))
    assert capsys.readouterr().err == ""


def test_a_template_that_takes_the_clock_without_a_question_gets_the_same(policy_of):
    policy = policy_of("{{ strftime_now('%A %-d.%-m.%y, %Y-%m-%d %H:%M, 100%%') }}")
    assert asked(policy) == "Friday 26.7.24, 2024-07-26 00:00, 100%"
    within = "{% macro day() %}{{ strftime_now('%B') | upper }}{% endmacro %}{{ day() }}"
    assert asked(policy_of(within)) == "JULY"


@pytest.mark.parametrize("day", ["yesterday", "2024-13-01", 7])
def test_what_is_no_date_is_refused(day):
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        ModelConfig(template_date=day)


def test_a_date_of_yaml_is_a_date():
    import yaml

    given = yaml.safe_load("template_date: 2024-02-29")
    assert ModelConfig(**given).template_date == "2024-02-29"


# --- arguments


def test_arguments_reach_the_template_everywhere(policy_of):
    plain, silent = policy_of(QWEN), policy_of(QWEN, template_args={"enable_thinking": False})
    assert asked(plain).endswith("[assistant\n")
    assert asked(silent).endswith("[assistant\n<think>\n\n</think>\n\n")
    assert answered(plain, "3") == "<think>\n\n</think>\n\n3]\n"
    assert answered(silent, "3") == "3]\n"
    assert not plain.opens_thought
    assert not silent.opens_thought


OPENS_UNLESS = DEEPSEEK.replace(
    "{{ '<A><think>\\n' }}",
    "{{ '<A>' }}{% if thinking is not defined or thinking %}{{ '<think>\\n' }}{% endif %}",
)


def test_whether_a_thought_is_open_depends_on_the_arguments(policy_of):
    assert policy_of(OPENS_UNLESS).opens_thought
    assert not policy_of(OPENS_UNLESS, template_args={"thinking": False}).opens_thought
    assert policy_of(OPENS_UNLESS, template_args={"thinking": True}).opens_thought


def test_a_thought_that_the_system_message_speaks_of_is_not_open(policy_of):
    assert not policy_of(STRIPS, system="Begin with <think>").opens_thought
    assert policy_of(DEEPSEEK, system="End with </think>").opens_thought


@pytest.mark.parametrize(
    ("args", "settings", "words"),
    [
        ({"enable_thinkin": False}, {}, r"has no effect(.|\n)*Did you mean 'enable_thinking'"),
        ({"messages": []}, {}, "set otherwise"),
        ({"add_generation_prompt": False}, {}, "set otherwise"),
        ({"tokenize": False}, {}, "set otherwise"),
        ({"enable_thinking": False}, {"chat_template": "never"}, "without a chat template"),
    ],
)
def test_arguments_without_effect_are_refused_at_once(policy_of, args, settings, words):
    with pytest.raises(ConfigError, match=words):
        policy_of(QWEN, template_args=args, **settings)


def test_arguments_without_any_template_are_refused(policy_of):
    with pytest.raises(ConfigError, match="'style' has no chat template"):
        policy_of(None, template_args={"enable_thinking": False})


def test_arguments_of_a_template_with_transformers_own_tags_are_found(policy_of):
    template = (
        "{% generation %}{{ x }}{% endgeneration %}{% for m in messages %}{% break %}{% endfor %}"
    )
    assert asked(policy_of(template, template_args={"x": "hi"})) == "hi"


def test_two_models_that_are_added_share_arguments_and_date(policy_of):
    for setting in ({"template_args": {"enable_thinking": False}}, {"template_date": "2025-01-01"}):
        with pytest.raises(ModelError, match=r"another model\.template_"):
            check_pair(policy_of(QWEN), policy_of(QWEN, **setting))


# --- answers


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("3", "\n</think>\n\n3<end>"),
        ("  3", "\n</think>\n\n3<end>"),
        ("1 and 2\n</think>\n\n3", "1 and 2\n</think>\n\n3<end>"),
        ("<think>\n1 and 2\n</think>\n\n3", "1 and 2\n</think>\n\n3<end>"),
        ("<think>1 and 2</think>3", "1 and 2</think>3<end>"),
        ("\n<think>\n1</think>3", "1</think>3<end>"),
    ],
)
def test_an_answer_goes_on_from_a_thought_that_the_prompt_opens(policy_of, text, after):
    policy = policy_of(DEEPSEEK)
    assert asked(policy) == "<U>1+2=?<A><think>\n"
    assert answered(policy, text) == after


def test_a_template_that_writes_the_open_thought_itself_is_followed(policy_of):
    thinks = QWEN.replace("{{- '[assistant\\n' }}", "{{- '[assistant\\n<think>\\n' }}")
    policy = policy_of(thinks)
    assert policy.opens_thought
    assert answered(policy, "3") == "\n</think>\n\n3]\n"
    assert answered(policy, "1 and 2\n</think>\n\n3") == "1 and 2\n</think>\n\n3]\n"
    assert answered(policy, "<think>\n1 and 2\n</think>\n\n3") == "1 and 2\n</think>\n\n3]\n"


def test_a_thought_that_an_answered_turn_would_leave_open_is_closed(policy_of):
    """Every turn of an assistant begins with the tag here, so prompts and answers go together."""
    template = DEEPSEEK.replace(
        "'<A>' + m.content.split('</think>')[-1]", "'<A><think>\\n' + m.content"
    )
    assert answered(policy_of(template), "3") == "\n</think>\n\n3<end>"
    assert answered(policy_of(template), "1</think>3") == "1</think>3<end>"


@pytest.mark.parametrize("text", ["<think>1 and 2</think>3", "<think>\n1\n</think>\n\n3"])
def test_thoughts_that_the_template_drops_are_kept(policy_of, text):
    assert answered(policy_of(STRIPS), text) == f"{text}<end>"
    assert answered(policy_of(STRIPS), "3") == "3<end>"


def test_an_answer_is_written_as_the_template_writes_it(policy_of):
    assert answered(policy_of(QWEN), "<think>1</think>3") == "<think>\n1\n</think>\n\n3]\n"
    assert answered(policy_of(LLAMA), " 3 ") == "3]"


def test_an_earlier_turn_keeps_what_the_template_makes_of_it(policy_of):
    chat = (("user", "hi"), ("assistant", "<think>so</think>yes"), ("user", "1+2"))
    policy, problem = policy_of(STRIPS), Problem(id="p", prompt="1+2", messages=chat)
    assert asked(policy, problem) == "<U>hi<A>yes<end><U>1+2<A>"
    assert answered(policy, "<think>1</think>3", problem) == "<think>1</think>3<end>"


@pytest.mark.parametrize("text", ["3", "<think>1</think>3"])
def test_a_system_text_in_the_last_turn_stays_in_the_prompt(policy_of, text):
    """The whole conversation has it nowhere; prompt and answer are what the model is asked."""
    policy = policy_of(MISTRAL, system="be brief")
    assert asked(policy) == "[I] be brief 1+2=? [/I]"
    assert answered(policy, text) == f" {text}</s>"
    assert answered(policy_of(MISTRAL), text) == f" {text}</s>"


@pytest.mark.parametrize(
    "template",
    [
        # an assistant's turn has another head than the generation prompt
        "{% for m in messages %}{{ m.role[0] + ':' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[bot]' }}{% endif %}",
        # the answer is not written as it is
        "{% for m in messages %}{{ m.content | upper if loop.index > 1 else loop.length }}"
        "{% endfor %}",
        # nor at all
        "{{ messages | length }}",
    ],
)
def test_a_template_whose_answer_cannot_be_found_is_refused(policy_of, template):
    with pytest.raises(DataError, match=r"'p7': .*writes the answered prompt otherwise"):
        policy_of(template).encode_completion(ASKED, "so be it")


def test_a_thought_that_cannot_be_closed_is_refused(policy_of):
    opens = DEEPSEEK.replace("<think>\\n", "<|channel|>analysis<|message|>")
    with pytest.raises(DataError, match="does not close it"):
        policy_of(opens).encode_completion(ASKED, "3")
    assert answered(policy_of(opens), "1<|channel|>final<|message|>3").startswith("1<|channel|>fin")


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<thinking>", "</thinking>"),
        ("[THINK]", "[/THINK]"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|think|>", "<|/think|>"),
        ("<seed:think>", "</seed:think>"),
        ("◁think▷", "◁/think▷"),
    ],
)
def test_each_kind_of_thought_is_closed_in_its_own_way(policy_of, opened, closed):
    policy = policy_of(DEEPSEEK.replace("<think>\\n", opened))
    assert answered(policy, "3") == f"\n\n{closed}\n\n3<end>"


class _Pairs(_Characters):
    """Two line breaks are one token."""

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [ord(c) for c in text.replace("\n\n", "\x05")]}

    def decode(self, tokens, **how):
        return super().decode(tokens).replace("\x05", "\n\n")


def test_a_token_over_the_border_of_prompt_and_answer_is_cut_in_two(tiny_model):
    """What the model is asked is fixed, so the answer begins with a token of its own."""
    tok = _Pairs(DEEPSEEK)
    policy = Policy.of(tiny_model, tok, ModelConfig(name="style", device="cpu"))
    prompt, completion = policy.encode_prompt(ASKED), policy.encode_completion(ASKED, "3")
    assert prompt[-1] == ord("\n")
    assert completion[0] == ord("\n")
    assert policy.decode([*prompt, *completion]) == asked(policy) + "\n</think>\n\n3<end>\x01"


# --- no template


@pytest.mark.parametrize(
    "messages", [CHAT, (("system", "s"), ("user", "u")), (("user", "u"), ("assistant", "a"))]
)
def test_several_turns_without_a_template_are_refused(policy_of, messages):
    problem = Problem(id="p7", prompt=messages[-1][1], messages=messages)
    policy = policy_of(LLAMA, chat_template="never")
    for call in (policy.encode_prompt, lambda it: policy.encode_completion(it, "3")):
        with pytest.raises(ConfigError, match=r"'p7' has several turns(.|\n)*chat_template=auto"):
            call(problem)


def test_one_turn_without_a_template_is_its_text(policy_of):
    policy = policy_of(LLAMA, chat_template="never")
    assert asked(policy, Problem(id="p", prompt="u", messages=(("user", "u"),))) == "u"
    assert asked(policy) == ASKED.prompt


def test_errors_of_templates_are_caught_where_they_rise():
    """raise_exception raises jinja2's TemplateError: a change of that would be a traceback."""
    tok = characters_of_the_testbed()
    tok.chat_template = GEMMA
    with pytest.raises(TemplateError):
        tok.apply_chat_template([{"role": "system", "content": "s"}], tokenize=False)
    with pytest.raises(DataError, match="refuses"):
        ChatTemplate(tok, "'x'").prompt([{"role": "system", "content": "s"}], "it")


def test_rollouts_go_on_from_the_open_thought(tiny_model):
    tok = tiny.tokenizer()
    tok.chat_template = "{{ messages[0].content }}{% if add_generation_prompt %}<think>{% endif %}"
    policy = Policy.of(tiny_model, tok, ModelConfig(name="tiny", device="cpu"))
    config = SampleConfig(max_new_tokens=3)
    (rollout,) = CachedSampler(policy).sample([ASKED], samples=1, config=config, seed=0)
    assert rollout.prompt_tokens == policy.encode_prompt(ASKED)
    assert policy.opens_thought


@pytest.mark.parametrize("command", ["eval", "inspect-data"])
def test_a_template_that_refuses_a_row_ends_a_command_with_a_sentence(rekindle, tmp_path, command):
    tiny.model().save_pretrained(tmp_path / "model")
    tok = tiny.tokenizer()
    tok.chat_template = GEMMA
    tok.save_pretrained(tmp_path / "model")
    row = '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "1+2"}]'
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "dev.jsonl").write_text(row + ', "answer": "3", "id": "p7"}\n')
    words = ["--model", tmp_path / "model", "--task", "jsonl", "--split", "dev"]
    words += ["--out", tmp_path / "eval.json"] if command == "eval" else []
    code, _, err = rekindle(command, *words, "--set", f"task.path={tmp_path / 'rows'}")
    assert code == 2
    assert "problem 'p7': the chat template" in err
    assert "System role not supported" in err
