-- Builds, what they may use, what they said, and where their results are.

create table builderd.tenants (
  tenant_id     text primary key,
  tier          text not null,
  -- False: the tier follows the platform's tenant, or the default.
  is_tier_set   boolean not null default false,
  -- Figures of quotas/limits.ts by name.
  overrides     jsonb not null default '{}',
  first_seen_at timestamptz not null default now()
);

-- Counters that quotas are checked against, changed in the transaction of what they count.
create table builderd.tenant_usage (
  tenant_id      text primary key references builderd.tenants,
  active         int not null default 0 check (active >= 0),
  queued         int not null default 0 check (queued >= 0),
  stored_bytes   bigint not null default 0 check (stored_bytes >= 0),
  reserved_bytes bigint not null default 0 check (reserved_bytes >= 0)
);

create table builderd.tenant_days (
  tenant_id    text not null references builderd.tenants,
  day          date not null,
  accepted     int not null default 0 check (accepted >= 0),
  completed    int not null default 0,
  failed       int not null default 0,
  cancelled    int not null default 0,
  running_ms   bigint not null default 0,
  pulled_bytes bigint not null default 0,
  primary key (tenant_id, day)
);

create table builderd.builds (
  build_id         text primary key,
  tenant_id        text not null references builderd.tenants,
  customer_id      text not null,
  tier             text not null,
  name             text not null,
  -- builder.v1.BuildConfig, secrets removed.
  config           bytea not null,
  labels           jsonb not null,
  source_kind      text not null,
  image_ref        text not null,
  manifest_digest  text,
  state            text not null,
  priority         smallint not null default 0,
  -- The limits it was accepted under.
  limits           jsonb not null,
  builds_max       int not null,
  attempt          int not null default 0,
  lost             int not null default 0,
  lease_owner      uuid,
  -- Grows with every owner; a write that names an older one changes nothing.
  lease_epoch      bigint not null default 0,
  lease_until      timestamptz,
  cancel_at        timestamptz,
  created_at       timestamptz not null,
  started_at       timestamptz,
  completed_at     timestamptz,
  running_ms       bigint not null default 0,
  pulled_bytes     bigint not null default 0,
  reserved_bytes   bigint not null default 0,
  progress         smallint not null default 0,
  step             text not null default '',
  error_code       text,
  error_message    text not null default '',
  rootfs_path      text not null,
  rootfs_bytes     bigint,
  rootfs_sha256    text,
  image_metadata   jsonb,
  metrics          jsonb,
  isolation        jsonb,
  log_seq          bigint not null default 0,
  log_bytes        bigint not null default 0,
  idempotency_key  text,
  idempotency_hash bytea,
  deleted_at       timestamptz
);
create index builds_of_tenant on builderd.builds (tenant_id, created_at desc, build_id desc) where deleted_at is null;
create index builds_by_time on builderd.builds (created_at desc, build_id desc) where deleted_at is null;
create index builds_waiting on builderd.builds (tenant_id, priority desc, created_at, build_id) where state = 'PENDING';
create index builds_leased on builderd.builds (lease_owner, lease_until) where lease_owner is not null;
create unique index builds_idempotency on builderd.builds (tenant_id, idempotency_key) where idempotency_key is not null;

-- Append only: what a resumed build already did, and where time went.
create table builderd.build_steps (
  build_id   text not null references builderd.builds,
  attempt    int not null,
  step       text not null,
  started_at timestamptz not null,
  ended_at   timestamptz,
  result     text,
  error      text,
  primary key (build_id, attempt, step)
);

-- Daily partitions; the service makes them ahead and drops them when they are old.
create table builderd.build_logs (
  build_id  text not null,
  seq       bigint not null,
  at        timestamptz not null,
  level     text not null,
  component text not null,
  message   text not null,
  metadata  jsonb,
  primary key (build_id, seq, at)
) partition by range (at);
-- For days nobody made a partition for: a line is never lost for want of one.
create table builderd.build_logs_rest partition of builderd.build_logs default;

create table builderd.build_secrets (
  build_id text primary key references builderd.builds,
  sealed   bytea not null
);

-- One file's content, however many builds made it.
create table builderd.artifacts (
  sha256       text not null,
  key_domain   text not null default '',
  bytes        bigint not null,
  format       text not null,
  last_used_at timestamptz not null default now(),
  primary key (sha256, key_domain)
);

-- A tenant pays for an artifact once, whatever number of its builds point to it.
create table builderd.artifact_owners (
  tenant_id  text not null references builderd.tenants,
  sha256     text not null,
  key_domain text not null default '',
  builds     int not null check (builds > 0),
  bytes      bigint not null,
  expires_at timestamptz not null,
  primary key (tenant_id, sha256, key_domain)
);

-- Which repository served a cached blob. Bytes are shared between tenants, access is not.
create table builderd.blob_origins (
  digest       text not null,
  registry     text not null,
  repository   text not null,
  is_anonymous boolean not null,
  bytes        bigint not null,
  at           timestamptz not null default now(),
  primary key (digest, registry, repository)
);

create table builderd.instances (
  instance_id  uuid primary key,
  version      text not null,
  capabilities jsonb not null,
  heartbeat_at timestamptz not null
);

-- The same on all daemons of one database: part of the source of usage events.
create table builderd.cluster (
  only_row   boolean primary key default true check (only_row),
  cluster_id uuid not null default gen_random_uuid()
);
insert into builderd.cluster default values;
