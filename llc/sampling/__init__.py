"""Chains: kernels, the runner, warm-up and production."""
