-- What tenants set by themselves: saved searches, alerts, retention, redaction, limits; and what becomes of them.
-- A definition is the object that the API takes; it was checked on its way in.

-- One counter per table below, raised with every change: replicas look at these few rows to know when to read again.
create table purser_logs.rule_changes (
  kind text primary key,
  revision bigint not null default 0
);

create table purser_logs.searches (
  id bigint generated always as identity primary key,
  tenant text not null,
  name text not null,
  definition jsonb not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (tenant, name)
);

create table purser_logs.alert_rules (
  id bigint generated always as identity primary key,
  tenant text not null,
  name text not null,
  definition jsonb not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (tenant, name)
);

create table purser_logs.retention_rules (
  id bigint generated always as identity primary key,
  tenant text not null,
  name text not null,
  definition jsonb not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (tenant, name)
);

create table purser_logs.redaction_rules (
  id bigint generated always as identity primary key,
  tenant text not null,
  name text not null,
  definition jsonb not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (tenant, name)
);

create table purser_logs.limits (
  id bigint generated always as identity primary key,
  tenant text not null,
  name text not null,
  definition jsonb not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (tenant, name)
);

-- Who does what only one replica may do. No session state: works behind a pooler in transaction mode. The token grows
-- with each change of hands; work done under an older one is rolled back.
create table purser_logs.leases (
  name text primary key,
  holder uuid not null,
  token bigint not null,
  until timestamptz not null
);

-- Everything that a replica accepted before its watermark is in the database.
create table purser_logs.replicas (
  replica uuid primary key,
  watermark timestamptz not null,
  seen_at timestamptz not null
);

-- Where each alert rule stands. Gone with its rule.
create table purser_logs.alert_states (
  rule bigint primary key references purser_logs.alert_rules (id) on delete cascade,
  -- The definition it was evaluated under; another one starts afresh.
  definition_hash text not null,
  state text not null check (state in ('ok', 'pending', 'firing', 'stalled')),
  -- What it was before it stalled.
  before_stall text,
  since timestamptz not null,
  pending_since timestamptz,
  -- What the last notification said.
  announced text not null,
  -- End of the last window looked at.
  evaluated_to timestamptz not null,
  value text,
  updated_at timestamptz not null default now()
);

-- The timeline: one row per change of state.
create table purser_logs.alert_events (
  rule bigint not null references purser_logs.alert_rules (id) on delete cascade,
  at timestamptz not null,
  state text not null,
  value text,
  primary key (rule, at, state)
);

-- Notifications on their way. The id never changes, however often one is sent.
create table purser_logs.deliveries (
  id uuid primary key,
  tenant text not null,
  rule bigint not null references purser_logs.alert_rules (id) on delete cascade,
  body text not null,
  created_at timestamptz not null,
  next_at timestamptz not null,
  attempts int not null default 0,
  state text not null default 'waiting' check (state in ('waiting', 'delivered', 'failed')),
  status int,
  problem text,
  finished_at timestamptz
);
create index deliveries_waiting on purser_logs.deliveries (next_at) where state = 'waiting';
create index deliveries_rule on purser_logs.deliveries (rule, created_at);

-- Deletions by filter. Matches are hidden while the row says running.
create table purser_logs.deletions (
  id uuid primary key,
  tenant text not null,
  q text not null,
  from_ns bigint not null,
  to_ns bigint not null,
  reason text not null,
  requested_by text not null,
  requested_at timestamptz not null,
  -- Entries accepted at this time or later are not concerned.
  accepted_before timestamptz not null,
  state text not null default 'running' check (state in ('running', 'done')),
  rows bigint not null default 0,
  bytes bigint not null default 0,
  -- Chained over the chunks; see rules/tombstone.ts.
  hash_before text not null,
  hash_after text not null,
  problem text,
  finished_at timestamptz
);
create index deletions_tenant on purser_logs.deletions (tenant, requested_at);
create index deletions_running on purser_logs.deletions (requested_at) where state = 'running';

-- What is left of a deletion: signed, and never changed.
create table purser_logs.tombstones (
  deletion uuid primary key references purser_logs.deletions (id),
  tenant text not null,
  body text not null,
  signature text not null,
  public_key text not null
);
