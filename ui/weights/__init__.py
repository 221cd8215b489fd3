"""The pages of a checkpoint's weights: all tensors, one tensor, the difference from another checkpoint, a series."""
