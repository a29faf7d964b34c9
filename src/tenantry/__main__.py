"""`python -m tenantry` is the same as `tenantry`."""

from tenantry.start import main

main()
