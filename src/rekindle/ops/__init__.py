"""Tensors in, tensors out: the primitives that several papers use. Imports torch, nothing of ours."""
