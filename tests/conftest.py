# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: no property is judged by how fast this machine happens to be."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")
