"""One forward pass: find the sites of a model, observe what flows there, replace it."""

from analysis.capture.discovery import find_sites
from analysis.capture.session import Session, capture
from analysis.capture.site import CaptureError, Frame, Site

__all__ = ["CaptureError", "Frame", "Session", "Site", "capture", "find_sites"]
