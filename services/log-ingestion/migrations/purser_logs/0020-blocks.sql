-- The `columnar` sink: about 10 000 rows of one tenant and UTC day per row here. The three sections are packed already, so
-- the server must not try again.

create sequence purser_logs.block_ids;

create table purser_logs.blocks (
  id bigint not null default nextval('purser_logs.block_ids'),
  tenant text not null,
  day date not null,
  -- Times are nanoseconds since the day began, so that they fit whatever the year.
  min_ns bigint not null,
  max_ns bigint not null,
  min_id bigint not null,
  max_id bigint not null,
  rows int not null,
  -- Bit n: some row has level number n of level.ts.
  level_mask int not null,
  services text[] not null,
  head bytea not null,
  messages bytea not null,
  metadata bytea not null,
  -- Null: not built yet; anything may match.
  bloom bytea,
  -- UTF-8 bytes of messages and metadata before packing.
  raw_bytes bigint not null,
  -- Of head, messages and metadata, one after the other.
  sha256 bytea not null,
  -- 0 as committed, 1 merged and packed harder.
  generation smallint not null default 0,
  written_at timestamptz not null default now(),
  primary key (day, id)
) partition by range (day);

alter table purser_logs.blocks
  alter head set storage external, alter messages set storage external,
  alter metadata set storage external, alter bloom set storage external;

create index blocks_newest on purser_logs.blocks (tenant, day, max_ns, id);
create index blocks_oldest on purser_logs.blocks (tenant, day, min_ns, id);
create index blocks_ids on purser_logs.blocks (tenant, max_id, min_id);

-- Older entries share one partition: a sender with a broken clock must not make thousands of them.
do $$
declare
  first_day date := (now() at time zone 'UTC')::date - 366;
begin
  execute format('create table purser_logs.blocks_p_before_%s partition of purser_logs.blocks for values from (minvalue) to (%L)',
    to_char(first_day, 'YYYYMMDD'), first_day);
end
$$;

-- Evidence. Each block that a commit wrote is a link: chain = SHA-256(chain before it || its sha256), per tenant and day.
-- Times are dates and bigint, so that a link can be recomputed from what it says.
create table purser_logs.chain (
  tenant text not null,
  day date not null,
  seq bigint not null,
  sha256 bytea not null,
  chain bytea not null,
  primary key (tenant, day, seq)
);

-- The newest link: the one row that commits of a tenant and day take turns at.
create table purser_logs.chain_heads (
  tenant text not null,
  day date not null,
  seq bigint not null,
  chain bytea not null,
  primary key (tenant, day)
);

-- Blocks that were written anew: what went, what stands in its place, why, signed.
create table purser_logs.rewrites (
  id bigint generated always as identity primary key,
  tenant text not null,
  day date not null,
  reason text not null,
  before bytea[] not null,
  after bytea[] not null,
  at_us bigint not null,
  public_key bytea not null,
  signature bytea not null
);
create index rewrites_day on purser_logs.rewrites (tenant, day);

-- What the compactor looks through.
create index blocks_fresh on purser_logs.blocks (tenant, day) where generation = 0;
