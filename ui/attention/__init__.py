"""The attention browser: all heads of a model, and the page of one. Everything shown was stored; the database filters and counts."""
