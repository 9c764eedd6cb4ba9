# SPDX-License-Identifier: Apache-2.0
"""One folder per outside system; they do not see each other."""
