# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes API server in memory: what the controller talks to when there is no cluster.

It imports nothing of the product, so that a misunderstanding of Kubernetes in the product cannot
hide behind the same misunderstanding here; the contract tests hold it to the real API server.
"""
