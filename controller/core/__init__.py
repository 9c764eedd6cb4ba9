# SPDX-License-Identifier: Apache-2.0
"""The pure core: every decision of the controller, with no clock, no I/O and no async."""
