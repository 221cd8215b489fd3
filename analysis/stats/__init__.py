"""Maths only: tensors in, numbers out. Bounded accumulators, intervals, sparsity measures; no models, no store."""
