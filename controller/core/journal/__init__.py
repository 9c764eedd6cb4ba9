# SPDX-License-Identifier: Apache-2.0
"""The tamper-evident record of a run: what was asked, decided, done and found."""
