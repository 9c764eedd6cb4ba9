# SPDX-License-Identifier: Apache-2.0
"""Protocols toward the outside, each with the errors that its methods may raise."""
