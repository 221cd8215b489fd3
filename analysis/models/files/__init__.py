"""Files from anywhere: what they hold by their headers, and how a stranger's file is kept, checked and converted."""

from __future__ import annotations

from analysis.models.files.header import Branch, Entry, Header, Refused, Step
from analysis.models.files.look import look
from analysis.models.files.quarantine import Quarantine, Upload

__all__ = ["Branch", "Entry", "Header", "Quarantine", "Refused", "Step", "Upload", "look"]
