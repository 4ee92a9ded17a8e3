-- Proof of delivery: marked requests and their repeats, what became of rows that were not simply stored.

-- Who was first under an Idempotency-Key. Written in the commit that stores the entries, so it holds across replicas.
create table purser_logs.idempotency (
  tenant text not null,
  key_id text not null,
  idem_key text not null,
  -- First 16 bytes of the SHA-256 of the decoded body.
  body_sha256 bytea not null,
  -- segment:from:to:rows:received µs of the request that was first.
  receipt text not null,
  -- Acceptance of that request; swept by IDEMPOTENCY_TTL.
  created_at timestamptz not null,
  primary key (tenant, key_id, idem_key)
);
create index idempotency_age on purser_logs.idempotency (created_at);

-- Requests of which not every row was stored: what their receipts answer. Rare, so one row each.
create table purser_logs.outcomes (
  segment uuid not null,
  from_off bigint not null,
  quarantined bigint not null default 0,
  duplicates bigint not null default 0,
  settled_at timestamptz not null default now(),
  primary key (segment, from_off)
);
create index outcomes_age on purser_logs.outcomes (settled_at);

insert into purser_logs.outcomes (segment, from_off, quarantined)
select split_part(position, ':', 1)::uuid, split_part(position, ':', 2)::bigint, count(*)
from purser_logs.quarantine group by 1, 2;

alter table purser_logs.quarantine
  -- Why it was discarded.
  add column decision text,
  -- segment:from of the request that carries it now.
  add column replayed_as text;
create index quarantine_age on purser_logs.quarantine (received_at);
