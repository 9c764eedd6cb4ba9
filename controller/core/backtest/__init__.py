# SPDX-License-Identifier: Apache-2.0
"""A policy tried on a target's own history: stable's pods play the canary, as they are or worse."""
