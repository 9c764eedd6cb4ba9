# SPDX-License-Identifier: Apache-2.0
"""The life of a run, from the change that was seen to the last object that was cleaned away."""
