-- What log-ingestion keeps beside the guide's tables. Times are timestamptz; counts are rows, sizes bytes.

-- Which stretches of which journals are in the database. A set: a range that is here makes a commit a no-op, and what
-- a journal holds beyond these ranges is still to be stored. Neighbouring ranges are merged later.
create table purser_logs.commits (
  replica uuid not null,
  segment uuid not null,
  from_off bigint not null,
  to_off bigint not null,
  rows bigint not null,
  primary key (replica, segment, from_off),
  check (to_off > from_off)
);

-- Per replica, key and hour of acceptance: accepted = stored + quarantined + duplicates + (pending, in the journal).
create table purser_logs.ledger (
  replica uuid not null,
  key_id text not null,
  tenant text not null,
  hour timestamptz not null,
  accepted bigint not null default 0,
  stored bigint not null default 0,
  quarantined bigint not null default 0,
  duplicates bigint not null default 0,
  damaged bigint not null default 0,
  deleted bigint not null default 0,
  expired bigint not null default 0,
  bytes bigint not null default 0,
  primary key (replica, key_id, tenant, hour)
);

-- Rows per hour of the event's own time: statistics without a scan.
create table purser_logs.totals (
  tenant text not null,
  hour timestamptz not null,
  service text not null,
  level text not null,
  rows bigint not null,
  primary key (tenant, hour, service, level)
);

-- Entries the database refuses for what they are; kept whole until somebody decides.
create table purser_logs.quarantine (
  id bigint generated always as identity primary key,
  tenant text not null,
  key_id text not null,
  replica uuid not null,
  -- segment:offset of the request in its journal, and the row's index in it.
  position text not null,
  received_at timestamptz not null,
  protocol text not null,
  reason text not null,
  detail text not null,
  -- The entry as JSON.
  entry bytea not null,
  status text not null default 'open' check (status in ('open', 'replayed', 'discarded')),
  decided_by text,
  decided_at timestamptz
);
create index quarantine_position on purser_logs.quarantine (position text_pattern_ops);
create index quarantine_tenant on purser_logs.quarantine (tenant, received_at);

-- What usage events were, or are to be, made from. Reported is never more than counted; the difference of an hour that
-- is over becomes an event, and rows that come later become a further part of the same hour.
create table purser_logs.usage_hours (
  replica uuid not null,
  tenant text not null,
  hour timestamptz not null,
  rows bigint not null default 0,
  bytes bigint not null default 0,
  reported_rows bigint not null default 0,
  reported_bytes bigint not null default 0,
  parts int not null default 0,
  primary key (replica, tenant, hour)
);
create index usage_hours_open on purser_logs.usage_hours (replica, hour) where rows > reported_rows;
