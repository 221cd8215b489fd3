"""Ways of making a model sparser, each a context manager with a level that restores every bit on exit."""
