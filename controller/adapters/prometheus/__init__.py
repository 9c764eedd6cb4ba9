# SPDX-License-Identifier: Apache-2.0
"""Prometheus and what speaks its query API; what a gateway calls its metrics is data, not code."""
