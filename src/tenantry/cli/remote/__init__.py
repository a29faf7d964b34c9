"""The command line through the admin API of a control that runs elsewhere."""
