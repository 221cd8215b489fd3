"""Interventions on attention, one file each; `METHODS` is the table of contents."""

from __future__ import annotations

from analysis.interventions.attention.entries import ENTRIES
from analysis.interventions.entry import Entry

METHODS: tuple[Entry, ...] = ENTRIES
"""In the order they are offered."""
