# SPDX-License-Identifier: Apache-2.0
"""Kubernetes: one seam of bytes (`wire`), and everything that is said over it."""
