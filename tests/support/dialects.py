# SPDX-License-Identifier: Apache-2.0
"""The media types of patches, for whoever speaks to an API server without the product's client."""

from typing import Final

JSON_PATCH: Final = "application/json-patch+json"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
