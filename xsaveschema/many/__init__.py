# SPDX-License-Identifier: MIT
"""Many areas: arrays, files larger than memory, columns, datasets; one policy for bad ones."""
