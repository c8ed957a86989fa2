"""LoRA adapters: what is trained instead of a model's weights."""
