"""Several gateways of one site as real processes: what is promised holds whoever is killed, frozen or cut off.

`site.py` starts them: PostgreSQL, three gateways on two machines (a machine is a folder of its own, with its journals
and its own loopback address), a control process on each, HAProxy in front. `link.py` stands between a gateway and
PostgreSQL, and can be cut. `load.py` are clients that go on whatever happens; `books.py` compares what they asked, what
the upstream saw, and the ledger. `parts.py` are the storms, in any size.

The short form is tests/acceptance/test_cluster.py. The long form prints figures: `make cluster`.
"""
