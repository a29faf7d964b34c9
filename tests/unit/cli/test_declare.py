"""What `apply` says at its end."""

from tenantry.cli.declare import named


def test_thousands_of_failed_checks_are_counted_and_not_all_named() -> None:
    assert named(["acme", "birch"]) == "acme, birch"
    assert named([f"t{number}" for number in range(10_000)]) == "t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 9990 more"
