"""The tables (DESIGN section 5). Times are UTC; money is nano-dollars; rows of the ledger are only ever added."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table("meta", metadata, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))

# What each move of the directory's version touched, of the last thousands. A row with `since` 7 and `version` 9 tells
# of both versions after 7.
directory_changes = Table(
    "directory_changes",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),  # tenant | tier | credential | upstream | all | nothing
    Column("object_id", String(64), primary_key=True),
    Column("since", BigInteger, nullable=False),
)

# What the site itself needs to keep secret: by `storage/custody.py`.
site_secrets = Table(
    "site_secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("master_key_id", String(32), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

tiers = Table(
    "tiers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("limits", Text, nullable=False),  # JSON: every limit of domain/limits.py
    Column("declared", Boolean, nullable=False, server_default=false()),  # by a file of tenants
    Column("created_at", DateTime(timezone=True), nullable=False),
)

upstreams = Table(
    "upstreams",
    metadata,
    Column("upstream_id", String(40), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("base_url", Text, nullable=False),
    Column("ca_file", Text),
    Column("connect_seconds", Float, nullable=False),
    Column("answer_seconds", Float, nullable=False),
    Column("capacity", Text, nullable=False),  # JSON: the limits that are configured
    Column("shares_capacity", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("address_seal", String(64)),  # of its id and base_url, by the master key
)

credentials = Table(
    "credentials",
    metadata,
    Column("credential_id", String(40), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("upstream_id", String(40), ForeignKey(upstreams.c.upstream_id), nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("master_key_id", String(32), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("hint", String(16), nullable=False),
    Column("workspace_id", String(64)),
    Column("source", Text),  # where a file of tenants has it from, such as env:ACME_KEY
    Column("checked_at", DateTime(timezone=True)),  # when `credentials check` last found it to work
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# What an operator has set since, on top of the prices that ship: only ever added. The newest number is a part of the
# version that the ledger names. `model` is "" where the rule for models without a price was changed.
price_changes = Table(
    "price_changes",
    metadata,
    Column("change_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False),
    Column("from_day", String(10), nullable=False),  # UTC; "" for a rule
    Column("terms", Text, nullable=False),  # JSON as in domain/prices.json, or the rule's name
    Column("source", Text, nullable=False),  # in the operator's words
    Column("actor", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# Which there are; their terms are versions: billing_tables.py.
plans = Table(
    "plans",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("declared", Boolean, nullable=False, server_default=false()),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("slug", String(63), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("tier", String(64), ForeignKey(tiers.c.name), nullable=False),
    Column("limits", Text, nullable=False),  # JSON: what differs from the tier
    Column("credential_id", String(40), ForeignKey(credentials.c.credential_id)),
    Column("fallback_credential_id", String(40), ForeignKey(credentials.c.credential_id)),
    Column("user_profile_id", String(64)),
    Column("plan", String(64), ForeignKey(plans.c.name)),
    Column("contact", Text),
    Column("budget_mode", String(8), nullable=False, server_default="hard"),  # hard | soft
    Column("disconnect", String(8), nullable=False, server_default="drain"),  # drain | cancel
    Column("declared", Boolean, nullable=False, server_default=false()),  # by a file of tenants
    Column("offboard", String(8), nullable=False, server_default="keep"),  # keep | delete
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_tenants_credential_id", "credential_id"),
)

# Names of clients' own under which their software calls: each is one tenant's, in its one form (domain/hosts.py).
tenant_hosts = Table(
    "tenant_hosts",
    metadata,
    Column("host", String(253), primary_key=True),
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), nullable=False, index=True),
)

gateway_keys = Table(
    "gateway_keys",
    metadata,
    Column("key_id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), nullable=False, index=True),
    Column("label", String(128), nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("limits", Text, nullable=False),  # JSON: what differs from the tenant
    Column("slot", String(63), nullable=False, server_default=""),  # for good; "" for a key of the whole tenant
    Column("replaced_by", String(40)),
    Column("rotate_days", Integer),
    Column("last_used_at", DateTime(timezone=True)),
    Column("last_used_address", String(64)),
    Column("last_used_agent", String(200)),
    Column("expires_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
)

# Endpoints of a tenant with keys and a lane of their own. One that goes leaves its keys, which say what was used.
tenant_slots = Table(
    "tenant_slots",
    metadata,
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("limits", Text, nullable=False),  # JSON: what differs from the tenant
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# What a tenant, or one of its keys, may cost in a period. `key_id` is "" for the whole tenant.
budgets = Table(
    "budgets",
    metadata,
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("period", String(8), primary_key=True),  # day | week | month
    Column("amount_nanos", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# Money on top of a tenant's budget of that period, from `created_at` to `until`.
budget_raises = Table(
    "budget_raises",
    metadata,
    Column("raise_id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), nullable=False),
    Column("period", String(8), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Index("ix_budget_raises_tenant_id", "tenant_id"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("attempt_id", String(48), nullable=False, unique=True),
    Column("request_id", String(48), nullable=False, index=True),
    Column("upstream_request_id", Text),
    Column("tenant_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("credential_id", String(40), nullable=False),
    Column("upstream_id", String(40), nullable=False),
    Column("model_requested", Text, nullable=False),
    Column("model_served", Text),
    Column("streaming", Boolean, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_write_5m_tokens", BigInteger, nullable=False),
    Column("cache_write_1h_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("thinking_tokens", BigInteger, nullable=False),
    Column("web_search_requests", BigInteger, nullable=False),
    Column("web_fetch_requests", BigInteger, nullable=False),
    Column("stop_reason", Text),
    Column("status", Integer),
    Column("begun_at_us", BigInteger, nullable=False),
    Column("first_byte_at_us", BigInteger),
    Column("ended_at_us", BigInteger, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("cost_nanos", BigInteger),
    Column("price_version", String(32)),
    Column("usage_raw", Text, nullable=False),
    Column("error", Text),
    Column("journal_run", String(80), nullable=False),
    Column("journal_seq", BigInteger, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("row_hash", String(64), nullable=False),
    Column("adjusts", String(48)),  # the attempt that this row corrects
    Column("saved_nanos", BigInteger),  # by the cache breakpoint that the gateway added
    Column("basis", String(8)),  # usage | bound: where the cost comes from; NULL in rows of older versions
    Column("held_nanos", BigInteger),  # what budgets count for an attempt without a price
    Column("flaws", Text),  # what was wrong with the usage that was told, by comma
    Column("queue_wait_us", BigInteger),  # how long the request waited for a turn; NULL where it did not
    Index("ix_ledger_tenant_id_ended_at_us", "tenant_id", "ended_at_us"),
    Index("ix_ledger_ended_at_us", "ended_at_us"),
    UniqueConstraint("journal_run", "journal_seq", name="uq_ledger_journal_run_journal_seq"),
)

# These indexes have the same condition in PostgreSQL, where the migrations make them. It is not repeated here, where
# nothing is made: to name an option of its dialect loads that, 25 ms of every start.
Index(
    "ix_ledger_upstream_request_id",
    ledger.c.upstream_request_id,
    sqlite_where=ledger.c.upstream_request_id.is_not(None),
)
Index(
    "ix_ledger_adjusts",
    ledger.c.adjusts,
    sqlite_where=ledger.c.adjusts.is_not(None),
)

# What the opening of a gateway asks for: attempts without a price, and corrections that are new.
Index(
    "ix_ledger_held",
    ledger.c.ended_at_us,
    sqlite_where=ledger.c.held_nanos.is_not(None),
)
Index(
    "ix_ledger_adjustments",
    ledger.c.entry_id,
    sqlite_where=ledger.c.adjusts.is_not(None),
)
# Flawed usage is alerted on as it is booked.
Index(
    "ix_ledger_flaws",
    ledger.c.entry_id,
    sqlite_where=ledger.c.flaws.is_not(None),
)

# Sums of the ledger, kept by the transaction that books. A quarter of an hour in UTC, for the days of every time zone
# begin with one. `unpriced` falls again when an adjustment prices an attempt.
usage_rollup = Table(
    "usage_rollup",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("quarter_us", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", String(40), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("attempts", BigInteger, nullable=False),
    Column("adjustments", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_write_5m_tokens", BigInteger, nullable=False),
    Column("cache_write_1h_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("thinking_tokens", BigInteger, nullable=False),
    Column("web_search_requests", BigInteger, nullable=False),
    Column("web_fetch_requests", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("saved_nanos", BigInteger, nullable=False),
    # Covers the sums of all tenants over a period, which budgets and alerts ask for.
    Index("ix_usage_rollup_quarter_us", "quarter_us", "tenant_id", "key_id", "cost_nanos"),
    sqlite_with_rowid=False,
)

# What was exported on schedule. `tenant_id` is "" for all.
exports = Table(
    "exports",
    metadata,
    Column("period", String(16), primary_key=True),
    Column("tenant_id", String(40), primary_key=True),
    Column("file_name", Text, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("written_at", DateTime(timezone=True), nullable=False),
    Column("machine", Text),  # on whose disk the file lies
)

# Running totals per gateway run, so that booking one twice changes nothing.
refusals = Table(
    "refusals",
    metadata,
    Column("run_id", String(80), primary_key=True),
    Column("tenant_id", String(40), primary_key=True),
    Column("reason", String(40), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_at_us", BigInteger, nullable=False),
    Index("ix_refusals_tenant_id", "tenant_id"),
)

# What the totals above grew by, by the quarter of an hour in which the last of it was: how often in a week, say.
refusal_sums = Table(
    "refusal_sums",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("quarter_us", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(40), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

# The newest refused requests (ledger/refused.py); `tenant_id` "": nobody's key. `reason` "": none that is counted.
refused_requests = Table(
    "refused_requests",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("request_id", String(40), nullable=False),
    Column("tenant_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error", String(40), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("model", String(128), nullable=False),
    UniqueConstraint("request_id"),
    Index("ix_refused_requests_tenant_id", "tenant_id", "number"),
)

journals = Table(
    "journals",
    metadata,
    Column("run_id", String(80), primary_key=True),
    Column("file_number", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("head_hash", String(64), nullable=False),
    Column("damaged_lines", Integer, nullable=False),
    Column("closed_at", DateTime(timezone=True)),
)

# Lines of journals that could not be booked, as they are. `nanos` is what they may have cost, which budgets count.
quarantine = Table(
    "quarantine",
    metadata,
    Column("line_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("run_id", String(80), nullable=False),
    Column("file_number", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("line", LargeBinary, nullable=False),
    Column("begun_line", LargeBinary),
    Column("attempt_id", Text),
    Column("tenant_id", String(40)),
    Column("key_id", String(40)),
    Column("nanos", BigInteger, nullable=False),
    Column("found_at_us", BigInteger, nullable=False),
    UniqueConstraint("run_id", "file_number", "offset", name="uq_quarantine_run_id_file_number_offset"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("audit_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("origin", String(128), nullable=False),  # the host of a command, the address of an API's client
    Column("action", String(64), nullable=False),
    Column("object", String(128), nullable=False),
    Column("tenant", String(63)),  # the slug of the tenant it is about
    Column("detail", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("row_hash", String(64), nullable=False),
    Index("ix_audit_log_tenant", "tenant"),
)

admin_users = Table(
    "admin_users",
    metadata,
    Column("admin_id", String(40), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("token_digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("role", String(16), nullable=False, server_default="owner"),
    Column("hint", String(16), nullable=False, server_default=""),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_digest", LargeBinary),  # of the token before it was rotated, which works until `last_until`
    Column("last_until", DateTime(timezone=True)),
    Column("used_at", DateTime(timezone=True)),
    Column("tenants", Text),  # JSON: the ids of those it is confined to; NULL: all of the site
)

# What the admin API answered to a write with an Idempotency-Key, sealed; without an answer: the write has begun.
kept_answers = Table(
    "kept_answers",
    metadata,
    Column("answer_id", String(40), primary_key=True),
    Column("holder", String(128), nullable=False),  # who asked: a key is that of whoever uses it
    Column("idempotency_key", String(255), nullable=False),
    Column("asked", LargeBinary, nullable=False),  # a keyed hash of method, address and body
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("master_key_id", String(32)),
    Column("wrapped_key", LargeBinary),
    Column("ciphertext", LargeBinary),
    UniqueConstraint("holder", "idempotency_key", name="uq_kept_answers_holder_idempotency_key"),
    Index("ix_kept_answers_begun_at", "begun_at"),
)

# The percents at which a tenant's budget raises alerts; a tenant without a row has the default ones.
alert_thresholds = Table(
    "alert_thresholds",
    metadata,
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), primary_key=True),
    Column("percents", Text, nullable=False),  # JSON: a list
)

# Where alerts go. What is sealed is JSON of the URL and, for a webhook, its signing secret.
alert_targets = Table(
    "alert_targets",
    metadata,
    Column("target_id", String(40), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # apprise | webhook
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id)),  # only this tenant's alerts
    Column("kinds", Text, nullable=False),  # JSON: a list; empty for every kind
    Column("hint", String(80), nullable=False),
    Column("master_key_id", String(32), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_alert_targets_tenant_id", "tenant_id"),
)

# `occasion` is what makes an alert be raised once, whoever raises it. Only `last_seen_us` ever changes.
alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("occasion", String(250), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("subject", String(160), nullable=False),
    Column("tenant_id", String(40)),
    Column("slug", String(63)),
    Column("message", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Column("raised_at_us", BigInteger, nullable=False),
    Column("last_seen_us", BigInteger, nullable=False),
    Index("ix_alerts_kind_subject", "kind", "subject"),
    Index("ix_alerts_tenant_id", "tenant_id"),
)

# The outbox: one row for each alert and target.
alert_deliveries = Table(
    "alert_deliveries",
    metadata,
    Column("delivery_id", String(40), primary_key=True),
    Column("alert_id", BigInteger().with_variant(Integer, "sqlite"), ForeignKey(alerts.c.alert_id), nullable=False),
    Column("target_id", String(40), ForeignKey(alert_targets.c.target_id), nullable=False),
    Column("status", String(16), nullable=False),  # waiting | sent | given_up
    Column("attempts", Integer, nullable=False),
    Column("due_at_us", BigInteger, nullable=False),
    Column("lease", String(40), nullable=False),  # who is sending it just now, until `leased_until_us`
    Column("leased_until_us", BigInteger, nullable=False),
    Column("last_error", Text),
    Column("ended_at_us", BigInteger),
    UniqueConstraint("alert_id", "target_id", name="uq_alert_deliveries_alert_id_target_id"),
    Index("ix_alert_deliveries_status_due_at_us", "status", "due_at_us"),
    Index("ix_alert_deliveries_target_id", "target_id"),
)
