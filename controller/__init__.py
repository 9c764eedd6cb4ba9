# SPDX-License-Identifier: Apache-2.0
"""Switchgear: progressive delivery for plain Kubernetes Deployments.

The package is empty on purpose: `import controller` must cost nothing, because `switchgear kill`
starts here.
"""

__version__ = "0.1.0"
