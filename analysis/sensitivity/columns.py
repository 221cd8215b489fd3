"""Columns that several tables of sensitivity share."""

from __future__ import annotations

from analysis.spec import Column

COUNT = (0, 1e18)
ANY = (-1e308, 1e308)
"""Of what may be negative."""
ENDLESS = "NULL where the loss of a position is infinite or no number"
OF_SCOPE, OF_MATRIX = "share of the scope", "share of the matrix"

LEVEL = Column("level", "float", "Share of the weights in scope to be removed", unit=OF_SCOPE, range=(0, 1))
TENSOR = Column("tensor", "str", "Parameter")
LAYER = Column("layer", "int", "Block, from 0; NULL outside of the blocks", range=(0, 1e6), optional=True)
ROLE = Column("role", "str", "Path inside its block: the same for alike matrices of different layers")
N_WEIGHTS = Column("n_weights", "int", "Weights in it", unit="weights", range=COUNT)
N_MEASURED = Column("n", "int", "Positions measured", unit="positions", range=COUNT)
N_SCORED = Column("n", "int", "Positions scored", unit="positions", range=COUNT)
N_DOCUMENTS = Column("n_documents", "int", "Documents measured", unit="documents", range=COUNT)
DOCUMENT = Column("document", "int", "Document, from 0", range=COUNT)
LOSS_SUM = Column("loss_sum", "float", f"Sum of the loss over them; {ENDLESS}", range=ANY, optional=True)
DENSE_SUM = Column("dense_sum", "float", "The same of the dense model", range=ANY)
TASK = Column("task", "str", "causal-lm, masked-lm, seq2seq, classification, divergence, or own")
SPLIT = Column("split", "str", "Which documents were measured")
