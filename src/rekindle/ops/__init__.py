"""Tensors in, tensors out: primitives that several papers use. Imports torch, nothing of ours."""
