"""The testbed's tokenizer and untrained models, made from nothing but these lines."""

from typing import TYPE_CHECKING

from rekindle.testbed import LLAMA

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def make_tokenizer() -> "PreTrainedTokenizerFast":
    """Printable ASCII by characters, the numbers 10 to 99 as one token each; BOS is prepended.

    Decoding gives back every ASCII text exactly; other characters become `<unk>`.
    """
    from tokenizers import Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    characters = ["\n", *(chr(code) for code in range(32, 127))]
    pairs = [(str(tens), str(ones)) for tens in range(1, 10) for ones in range(10)]
    tokens = [*SPECIAL, *characters, *(tens + ones for tens, ones in pairs)]
    inner = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=pairs,
            unk_token="<unk>",
        )
    )
    inner.decoder = decoders.Fuse()
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", SPECIAL.index("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=LLAMA["max_position_embeddings"],
    )


def fresh_model(seed: int) -> "LlamaForCausalLM":
    """A Llama with random weights, the same for the same seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    ids = {f"{name}_token_id": SPECIAL.index(f"<{name}>") for name in ("pad", "bos", "eos")}
    config = LlamaConfig.from_dict({**LLAMA, "vocab_size": len(tokenizer), **ids})
    return LlamaForCausalLM(config)
