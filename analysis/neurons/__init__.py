"""Questions about FFN neurons."""
