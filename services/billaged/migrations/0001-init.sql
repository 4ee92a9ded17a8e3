-- Facts are sets: every table of facts has its whole element as its key, and inserting an element again does nothing.

-- A customer is a platform tenant; its id is the tenant's slug. Rows appear with the first fact that names the id.
create table billaged.customer (
  id text primary key,
  -- A number for the exclusion constraint below: equality of a text cannot stand beside a range without an extension.
  no bigint generated always as identity unique,
  name text,
  currency text not null default 'USD',
  time_zone text not null default 'UTC',
  anchor_day smallint not null default 1 check (anchor_day between 1 and 31),
  interval_months smallint not null default 1 check (interval_months in (1, 3, 12)),
  first_seen timestamptz not null default now()
);

create table billaged.series (
  series_id bigint generated always as identity primary key,
  customer_id text not null references billaged.customer (id),
  vm_id text not null,
  first_ns bigint not null,
  last_ns bigint not null,
  unique (customer_id, vm_id)
);
create index series_by_vm on billaged.series (vm_id);

-- The samples of one series within one UTC hour, encoded (samples/part.ts). Readers take the union of an hour's rows.
create table billaged.sample_part (
  series_id bigint not null references billaged.series (series_id),
  hour integer not null,
  digest bytea not null,
  n integer not null,
  min_ns bigint not null,
  max_ns bigint not null,
  body bytea not null,
  primary key (series_id, hour, digest)
);
alter table billaged.sample_part alter column body set storage external;

create table billaged.vm_mark (
  vm_id text not null,
  customer_id text,
  kind text not null check (kind in ('start', 'stop', 'gap')),
  at_ns bigint not null,
  until_ns bigint,
  unique nulls not distinct (vm_id, customer_id, kind, at_ns, until_ns)
);

-- When hosts vouched for a VM: the union of [receipt, receipt + lease), which is the same in whatever order it is made.
create table billaged.vm_lease (
  vm_id text not null,
  instance_id text not null,
  day integer not null,
  spans int8multirange not null,
  primary key (vm_id, instance_id, day)
);

-- Identity is (source, id); different contents under one identity are a conflict, and all are kept. Hash partitions by
-- identity, so that the key holds for as long as the rows live.
create table billaged.usage_event (
  source text not null,
  id text not null,
  digest bytea not null,
  customer_id text references billaged.customer (id),
  type text not null,
  subject text,
  at_ns bigint not null,
  data jsonb not null,
  received_at timestamptz not null,
  validation_error text,
  primary key (source, id, digest)
) partition by hash (source, id);
create table billaged.usage_event_0 partition of billaged.usage_event for values with (modulus 8, remainder 0);
create table billaged.usage_event_1 partition of billaged.usage_event for values with (modulus 8, remainder 1);
create table billaged.usage_event_2 partition of billaged.usage_event for values with (modulus 8, remainder 2);
create table billaged.usage_event_3 partition of billaged.usage_event for values with (modulus 8, remainder 3);
create table billaged.usage_event_4 partition of billaged.usage_event for values with (modulus 8, remainder 4);
create table billaged.usage_event_5 partition of billaged.usage_event for values with (modulus 8, remainder 5);
create table billaged.usage_event_6 partition of billaged.usage_event for values with (modulus 8, remainder 6);
create table billaged.usage_event_7 partition of billaged.usage_event for values with (modulus 8, remainder 7);
create index usage_event_by_customer on billaged.usage_event (customer_id, type, at_ns);

create table billaged.meter (
  slug text primary key,
  name text not null,
  event_type text not null,
  aggregation text not null,
  -- [["a", "b"], …]: paths into data whose values are added.
  value_paths jsonb not null,
  -- {"group": ["a", "b"], …}
  group_by jsonb not null,
  unit text not null,
  is_built_in boolean not null default false,
  created_at timestamptz not null default now()
);

create table billaged.quarantine (
  quarantine_id bigint generated always as identity primary key,
  digest bytea not null unique,
  what text not null check (what in ('sample', 'event')),
  customer_id text,
  vm_id text,
  reason text not null,
  payload jsonb not null,
  received_at timestamptz not null,
  state text not null default 'open' check (state in ('open', 'released', 'discarded'))
);

create table billaged.plan (
  id text primary key,
  name text not null,
  currency text not null,
  created_at timestamptz not null default now()
);

-- Versions end when the next one begins and never change once used.
create table billaged.plan_version (
  plan_id text not null references billaged.plan (id),
  version integer not null,
  effective_from timestamptz not null,
  body jsonb not null,
  created_at timestamptz not null default now(),
  primary key (plan_id, version),
  unique (plan_id, effective_from)
);

create table billaged.subscription (
  subscription_id bigint generated always as identity primary key,
  customer_id text not null references billaged.customer (id),
  customer_no bigint not null references billaged.customer (no),
  plan_id text not null references billaged.plan (id),
  from_at timestamptz not null,
  to_at timestamptz,
  created_at timestamptz not null default now(),
  check (to_at is null or to_at > from_at),
  -- No two subscriptions of a customer overlap. A range of one number overlaps another just when they are equal.
  constraint subscription_no_overlap exclude using gist (
    int8range(customer_no, customer_no, '[]') with &&,
    tstzrange(from_at, to_at) with &&
  )
);

-- A replica is one journal. What it has folded is committed in the transaction that holds what it folded.
create table billaged.replica (
  id uuid primary key,
  first_seen timestamptz not null default now(),
  last_seen timestamptz not null default now(),
  -- Bytes it had acknowledged and not folded when last seen.
  backlog_bytes bigint not null default 0
);

create table billaged.journal_checkpoint (
  replica uuid primary key references billaged.replica (id),
  segment text not null,
  "offset" bigint not null,
  folded_at timestamptz not null default now()
);
