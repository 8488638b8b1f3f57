# SPDX-License-Identifier: MIT
"""For those who write schema files: drafts from CPUID, lint, the generated pages and schemas."""
