# SPDX-License-Identifier: Apache-2.0
"""`python -m controller` is `switchgear`, for places where no console script is installed."""

from controller.cli import main

if __name__ == "__main__":
    main()
