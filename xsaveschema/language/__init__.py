# SPDX-License-Identifier: MIT
"""The YAML language: from the text of schema files to models, every fault told with its place."""
