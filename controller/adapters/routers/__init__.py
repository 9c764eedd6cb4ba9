# SPDX-License-Identifier: Apache-2.0
"""How each kind of router writes down the split between two Services, as pure patch building."""
