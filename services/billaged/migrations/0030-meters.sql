-- Meters that operators make, and voids: corrections of events.

alter table billaged.meter
  add column id uuid not null default gen_random_uuid() unique,
  add column description text,
  -- Events before it do not count.
  add column event_from_ns bigint,
  -- WEIGHTED_SUM: whether an event sets the level or changes it.
  add column value_mode text not null default 'set' check (value_mode in ('set', 'delta')),
  add column metadata jsonb not null default '{}',
  add column updated_at timestamptz not null default now();

-- A void names an event that must not count, whatever its content. Voids are set elements like the events themselves.
create table billaged.usage_void (
  source text not null,
  id text not null,
  reason text not null,
  voided_by text not null,
  voided_at timestamptz not null default now(),
  primary key (source, id)
);

create index usage_event_by_type on billaged.usage_event (type, at_ns);

-- A decimal with up to 9 fractional digits below 10^27, or null: the same rule as decimal.ts.
create function billaged.exact_decimal(t text) returns numeric language sql immutable strict parallel safe as $$
  select case
    when length(t) <= 100 and t ~ '^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]{1,3})?$'
    then (select case when n = round(n, 9) and abs(n) < 1e27 then n end from (select t::numeric as n) q)
  end
$$;
