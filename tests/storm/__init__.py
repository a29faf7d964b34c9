"""A storm: an upstream that does anything it is told, clients that leave at any moment, and the books of both.

`upstream.py` is a Messages API that follows a script for each request and writes down what it billed; `clients.py` are
clients of plain sockets; `accounting.py` compares the two with the ledger, and looks at the gateway's process.

To repeat a storm: `TENANTRY_STORM=10000 TENANTRY_STORM_SEED=123 .venv/bin/pytest -s tests/acceptance/test_storm.py`.
The seed of a run is printed; it decides each request's script, tenant, moment of leaving and order. What the machine's
own timing decides (which request comes first) is not repeated.
"""
