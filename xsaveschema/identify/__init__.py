# SPDX-License-Identifier: MIT
"""Which CPU is meant, and which wrote this: by a name, an area, a leaf 0xD, a table of offsets."""

from xsaveschema.identify.match import Candidate, Match, identify
from xsaveschema.identify.named import load_model

__all__ = ["Candidate", "Match", "identify", "load_model"]
