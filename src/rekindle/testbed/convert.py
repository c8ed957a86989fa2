"""A GGUF file -> a float32 model in Hugging Face layout: `python -m ...convert FILE DIRECTORY`.

A process of its own: transformers reads GGUF with the package `gguf`, which only this process has
on its path.
"""

import sys
from pathlib import Path


def convert(file: Path, out: Path) -> None:
    """Write model and tokenizer of a GGUF file below `out`, weights in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = {"gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **plain)
    read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **plain)
    # transformers refuses to save what was quantised, although its weights are plain numbers now
    del read.config.quantization_config
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict(), strict=True)
    if read.generation_config is not None:
        model.generation_config = read.generation_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
