# SPDX-License-Identifier: Apache-2.0
"""The guards: what stands between a decision and a write that raises risk."""
