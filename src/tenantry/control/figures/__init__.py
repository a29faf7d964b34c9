"""What pages show, as values: from the sums of the ledger, the gateways' live records and the directory.

Every sum of money is that of the commands and exports, by the same functions. Nothing here changes anything.
"""
