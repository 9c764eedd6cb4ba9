# SPDX-License-Identifier: Apache-2.0
"""The HTTP doors: they submit requests to the engine and tell what it knows."""
