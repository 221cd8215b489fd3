"""The neuron browser: all neurons of a model, and the page of one. Everything shown was stored; the database filters and counts."""
