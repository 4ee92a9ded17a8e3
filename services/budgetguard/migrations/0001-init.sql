-- Amounts are whole nano-dollars in int8; exact costs are 10^-21 USD in numeric(40,0).

create table budgetguard.tenant_settings (
  tenant_id int primary key,
  rate_limit_per_min int check (rate_limit_per_min >= 0),
  default_session_budget_nano int8 check (default_session_budget_nano >= 0),
  updated_at timestamptz not null default now()
);

-- A budget is a rule; accounts are its windows. A tenant's implicit budget is the same row as the stored one that may
-- replace it, so that its spend goes on when somebody stores an amount or takes it away again.
create table budgetguard.budgets (
  id int generated always as identity primary key,
  tenant_id int not null,
  scope_type text not null check (scope_type in ('tenant', 'key', 'tag', 'session', 'end_user', 'model', 'provider')),
  scope_id text not null default '',
  period text not null check (period in ('daily', 'weekly', 'monthly', 'custom', 'rolling', 'total')),
  anchor smallint not null default 1 check (anchor between 1 and 31),
  tz text,
  amount_nano int8 not null check (amount_nano >= 0),
  starts_at timestamptz,
  ends_at timestamptz,
  weight_ppm int8 not null default 1000000 check (weight_ppm between 0 and 1000000000),
  inheritance text not null default 'LENIENT',
  enforcement text not null default 'hard' check (enforcement in ('hard', 'last_call', 'observe')),
  filter jsonb,
  rollover jsonb,
  thresholds int[],
  is_implicit boolean not null default false,
  is_active boolean not null default true,
  version int8 not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  check (starts_at is null or ends_at is null or starts_at < ends_at),
  check (period <> 'custom' or (starts_at is not null and ends_at is not null))
);
create unique index budgets_one_per_period on budgetguard.budgets (tenant_id, period) where scope_type = 'tenant';
create index budgets_tenant_period on budgetguard.budgets (tenant_id, period);

-- settled + granted <= limit is the promise. It may only be broken by something that is not an admission (a limit
-- lowered below what is spent, a provider that charged more than its limit), and then the row says so.
create table budgetguard.accounts (
  id int8 generated always as identity primary key,
  budget_id int not null references budgetguard.budgets (id),
  tenant_id int not null,
  scope_value text not null default '',
  window_start timestamptz not null,
  window_end timestamptz not null,
  limit_nano int8 not null check (limit_nano >= 0),
  settled_nano int8 not null default 0,
  granted_nano int8 not null default 0 check (granted_nano >= 0),
  is_over_limit boolean not null default false,
  version int8 not null default 1,
  created_at timestamptz not null default now(),
  unique (budget_id, scope_value, window_start),
  check (window_start < window_end),
  constraint accounts_promise check (is_over_limit or settled_nano + granted_nano <= limit_nano)
);
create index accounts_tenant on budgetguard.accounts (tenant_id, window_end);

-- A process: its journal's identity, and which life of it is writing now.
create sequence budgetguard.fence_seq;
create table budgetguard.nodes (
  id uuid primary key,
  host text not null,
  pid int not null,
  version text not null,
  fence int8 not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);

-- What a process may spend of an account without asking. open: active or frozen (nobody renewed it); closed: returned.
create table budgetguard.leases (
  id int8 generated always as identity primary key,
  account_id int8 not null references budgetguard.accounts (id),
  node_id uuid not null references budgetguard.nodes (id),
  fence int8 not null,
  granted_nano int8 not null check (granted_nano >= 0),
  consumed_nano int8 not null default 0,
  expires_at timestamptz not null,
  state text not null default 'active' check (state in ('active', 'frozen', 'closed')),
  created_at timestamptz not null default now(),
  unique (account_id, node_id, fence),
  check (consumed_nano <= granted_nano)
);
create index leases_open on budgetguard.leases (node_id, fence) where state <> 'closed';
create index leases_expiry on budgetguard.leases (expires_at) where state = 'active';

-- Mirror of the holds that were open when their journal was last folded; gone when they end.
create table budgetguard.holds (
  id text primary key,
  node_id uuid not null references budgetguard.nodes (id),
  request_id text not null,
  tenant_id int not null,
  accounts int8[] not null,
  amount_nano int8 not null,
  opened_at timestamptz not null,
  deadline timestamptz not null,
  state text not null default 'open',
  reason text,
  record text not null
);
create index holds_node on budgetguard.holds (node_id);

-- How far a node's journal is folded. Moves in the transaction that books what lies before it.
create table budgetguard.positions (
  node_id uuid primary key references budgetguard.nodes (id),
  segment text not null,
  byte_offset int8 not null,
  sequence int8 not null,
  updated_at timestamptz not null default now()
);

create sequence budgetguard.ledger_id_seq;
create table budgetguard.ledger (
  id int8 not null default nextval('budgetguard.ledger_id_seq'),
  ts timestamptz not null,
  tenant_id int not null,
  key_id int8,
  key_prefix text not null default '',
  request_id text not null,
  hold_id text,
  kind text not null check (kind in ('call', 'adjust', 'late')),
  status text not null check (status in ('success', 'blocked', 'failed')),
  reason text,
  route text not null,
  provider text,
  model text not null,
  upstream_id text,
  is_stream boolean not null default false,
  input_tokens int8 not null default 0,
  cache_read_tokens int8 not null default 0,
  cache_write_tokens int8 not null default 0,
  output_tokens int8 not null default 0,
  reasoning_tokens int8 not null default 0,
  price_id int,
  hold_nano int8 not null default 0,
  settled_nano int8 not null default 0,
  released_nano int8 not null default 0,
  overrun_nano int8 not null default 0,
  cost_exact numeric(40, 0) not null default 0,
  usage_source text not null check (usage_source in ('reported', 'estimated', 'hold', 'none')),
  session_id text,
  end_user text,
  tags int[] not null default '{}',
  accounts int8[] not null default '{}',
  amounts int8[] not null default '{}',
  latency_ms int,
  attempts smallint not null default 1,
  flags text[] not null default '{}',
  node_id uuid not null,
  seq int8 not null,
  count int not null default 1,
  primary key (ts, id),
  unique (node_id, seq, ts),
  constraint ledger_balances check (hold_nano + overrun_nano = settled_nano + released_nano)
) partition by range (ts);
create index ledger_tenant on budgetguard.ledger (tenant_id, ts desc, id desc);
create index ledger_newest on budgetguard.ledger (ts desc, id desc);
create index ledger_request on budgetguard.ledger (request_id);
create index ledger_session on budgetguard.ledger (tenant_id, session_id) where session_id is not null;
create index ledger_end_user on budgetguard.ledger (tenant_id, end_user) where end_user is not null;

create function budgetguard.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'the ledger is append-only: % is refused; post an adjustment instead', tg_op using errcode = '23001';
end $$;
create trigger ledger_append_only before update or delete on budgetguard.ledger
  for each row execute function budgetguard.refuse_change();
create trigger ledger_no_truncate before truncate on budgetguard.ledger
  for each statement execute function budgetguard.refuse_change();

-- One partition per month, made by whoever first folds a row into it. Attaching locks less than "partition of".
create function budgetguard.ensure_ledger_month(at timestamptz) returns void language plpgsql as $$
declare
  month timestamp := date_trunc('month', at at time zone 'UTC');
  name text := 'ledger_' || to_char(month, 'YYYY_MM');
begin
  if to_regclass('budgetguard.' || name) is not null then return; end if;
  perform pg_advisory_xact_lock(hashtextextended('budgetguard.ledger_month', 0));
  if to_regclass('budgetguard.' || name) is not null then return; end if;
  execute format('create table budgetguard.%I (like budgetguard.ledger including all)', name);
  execute format('alter table budgetguard.ledger attach partition budgetguard.%I for values from (%L) to (%L)',
    name, month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
  execute format('create trigger ledger_no_truncate before truncate on budgetguard.%I
    for each statement execute function budgetguard.refuse_change()', name);
end $$;

-- A model keeps its id; each change of its price is a new dated row, and rows of the ledger name the one they used.
create table budgetguard.models (
  id int generated always as identity primary key,
  provider text not null,
  model text not null unique,
  version_tag text not null,
  context_window int8,
  output_max int8,
  image_tokens_max int8,
  learned_ppm int8 not null default 1000000 check (learned_ppm >= 1000000),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create table budgetguard.prices (
  id int generated always as identity primary key,
  model_id int not null references budgetguard.models (id),
  effective_from timestamptz not null default now(),
  input_nano int8 not null check (input_nano >= 0),
  cache_read_nano int8 not null check (cache_read_nano >= 0),
  cache_write_5m_nano int8 not null check (cache_write_5m_nano >= 0),
  cache_write_1h_nano int8 not null check (cache_write_1h_nano >= 0),
  output_nano int8 not null check (output_nano >= 0),
  is_free boolean not null default false,
  source text not null check (source in ('guide', 'operator', 'built-in')),
  created_at timestamptz not null default now()
);
create index prices_model on budgetguard.prices (model_id, effective_from desc, id desc);

create table budgetguard.console_sessions (
  id_hash bytea primary key,
  role text not null,
  subject text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
-- One-time sign-in tokens that were used, until they would have expired anyway.
create table budgetguard.used_tokens (
  id text primary key,
  expires_at timestamptz not null
);

-- Every process keeps budgets, prices and settings in memory; this number tells it to read them again.
create table budgetguard.config_version (
  is_only boolean primary key default true check (is_only),
  version int8 not null default 1
);
insert into budgetguard.config_version default values;
create function budgetguard.config_changed() returns trigger language plpgsql as $$
begin
  update budgetguard.config_version set version = version + 1;
  perform pg_notify('budgetguard_config', '');
  return null;
end $$;
create trigger config_changed after insert or update or delete on budgetguard.tenant_settings
  for each statement execute function budgetguard.config_changed();
create trigger config_changed after insert or update or delete on budgetguard.budgets
  for each statement execute function budgetguard.config_changed();
create trigger config_changed after insert or update or delete on budgetguard.models
  for each statement execute function budgetguard.config_changed();
create trigger config_changed after insert or update or delete on budgetguard.prices
  for each statement execute function budgetguard.config_changed();
