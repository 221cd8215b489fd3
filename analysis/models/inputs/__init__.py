"""Inputs of every kind, from what a user types after --data to `Data`: text, records, arrays, images, digits.

Nothing in a data file is ever executed, and no more of it is kept than what is sampled.
"""

from __future__ import annotations

from analysis.models.inputs.examples import Examples
from analysis.models.inputs.labelled import TextExamples, shifted
from analysis.models.inputs.load import load_data
from analysis.models.inputs.naming import DATA_WORDS, check_data, filed
from analysis.models.inputs.reads import Reads

__all__ = ["DATA_WORDS", "Examples", "Reads", "TextExamples", "check_data", "filed", "load_data", "shifted"]
