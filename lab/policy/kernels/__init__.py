"""Fast paths for the model: attention variants, fused operations, Triton kernels and low-rank layers."""
