# SPDX-License-Identifier: Apache-2.0
"""Whole rollouts on one machine: real processes around a simulated Kubernetes API server.

The daemon, Traefik, Prometheus, the pods' HTTP servers and the clients are processes of their own;
only the API server with its controllers is simulated (`controller.sim`). What differs from a real
cluster on purpose is one thing: endpoints may be loopback addresses.
"""
