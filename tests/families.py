"""A tiny config of each model family, with what is special about its head switched on."""

import transformers as t

_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    **_TOKENS,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 1}
LLAMA = {**_GROUPED, "head_dim": 8}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, **_TOKENS}
_GEMMA = {**LLAMA, "sliding_window": 4, "final_logit_softcapping": 2.0}
_OPT = {
    **{k: v for k, v in _SIZES.items() if k != "intermediate_size"},
    "ffn_dim": 32,
    "word_embed_proj_dim": 8,
}
_RECURRENT = {
    **{k: v for k, v in _SIZES.items() if k != "max_position_embeddings"},
    "num_hidden_layers": 3,
    "lru_width": 16,
    "attention_window_size": 8,
}

FAMILIES = {
    "llama": (t.LlamaConfig, LLAMA),
    "mistral": (t.MistralConfig, LLAMA),
    "qwen2": (t.Qwen2Config, _GROUPED),
    "qwen3": (t.Qwen3Config, LLAMA),
    "qwen2_moe": (t.Qwen2MoeConfig, {**_GROUPED, **_MOE, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": (t.Qwen3MoeConfig, {**LLAMA, **_MOE}),
    "mixtral": (t.MixtralConfig, {**LLAMA, "num_local_experts": 4}),
    "gemma": (t.GemmaConfig, LLAMA),
    "gemma2": (t.Gemma2Config, _GEMMA),
    "gemma3_text": (t.Gemma3TextConfig, _GEMMA),
    "granite": (t.GraniteConfig, {**_GROUPED, "logits_scaling": 4.0}),
    "cohere": (t.CohereConfig, {**_GROUPED, "logit_scale": 0.25}),
    "cohere2": (t.Cohere2Config, {**_GROUPED, "logit_scale": 0.25, "sliding_window": 4}),
    "gpt2": (t.GPT2Config, _GPT),
    "gptj": (t.GPTJConfig, {**_GPT, "rotary_dim": 4}),
    "gpt_neox": (t.GPTNeoXConfig, _SIZES),
    "opt": (t.OPTConfig, _OPT),
    "phi": (t.PhiConfig, _GROUPED),
    "phi3": (t.Phi3Config, _GROUPED),
    "olmo2": (t.Olmo2Config, _GROUPED),
    "starcoder2": (t.Starcoder2Config, _GROUPED),
    "stablelm": (t.StableLmConfig, _GROUPED),
    "bloom": (t.BloomConfig, {"hidden_size": 16, "n_layer": 2, "n_head": 2, **_TOKENS}),
    "mpt": (t.MptConfig, {"d_model": 16, "n_layers": 2, "n_heads": 2, **_TOKENS}),
    "mamba": (
        t.MambaConfig,
        {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, **_TOKENS},
    ),
    "recurrent_gemma": (t.RecurrentGemmaConfig, _RECURRENT),
}


def family_config(kind: str, *, vocabulary: int = 38, **changes: object):
    """The tiny config of a family."""
    make, settings = FAMILIES[kind]
    return make(**{"vocab_size": vocabulary, **settings, **changes})
