"""Models and runs side by side: what may be compared, what changed, and where to look closer."""
