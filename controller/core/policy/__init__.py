# SPDX-License-Identifier: Apache-2.0
"""What a team asks for: the policy on a Deployment, read, checked and capped.

`model` is the value, `parse` reads it from annotations, `lint` compares it with the manifests
around it, `caps` settles which ceiling on the canary's share counts.
"""
