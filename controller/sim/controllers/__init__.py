# SPDX-License-Identifier: Apache-2.0
"""What kube-controller-manager, a kubelet and a gateway do, one file each.

Every controller is level-triggered: an event only names a key, and what is done follows from the
state found when the key's turn comes, some milliseconds later.  The order of decisions follows
Kubernetes 1.37 and is held to it by the contract tests.
"""
