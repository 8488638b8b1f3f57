# SPDX-License-Identifier: MIT
"""One area with meaning: its fields, whole registers, and state that is missing."""

from xsaveschema.area.view import XsaveArea

__all__ = ["XsaveArea"]
