# SPDX-License-Identifier: Apache-2.0
"""A world of its own: API server, controllers, gateway, traffic and Prometheus, all simulated.

Nothing here imports the product.  A mistake shared by both would be invisible to every test.
"""
