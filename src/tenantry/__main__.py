"""`python -m tenantry` is the same as `tenantry`."""

from tenantry.app import main

main()
