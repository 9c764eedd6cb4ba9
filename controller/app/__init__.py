# SPDX-License-Identifier: Apache-2.0
"""The composition root: the one place that names concrete adapters."""
