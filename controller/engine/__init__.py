# SPDX-License-Identifier: Apache-2.0
"""The imperative shell: the order of I/O around the pure core, and never a decision."""
