# SPDX-License-Identifier: Apache-2.0
"""From counter samples to a verdict: the sequential test that may be looked at on every scrape."""
