"""Between the gateways of a site: how they find, prove and reach one another (decision 0021)."""
