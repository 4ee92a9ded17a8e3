-- Invoices are written once: a finalised one, its lines, its documents and its receipt never change. Everything above
-- them (usage, rating, drafts) is computed again whenever somebody asks.

alter table billaged.customer
  -- Millionths of the taxable amount.
  add column tax_ppm integer not null default 0 check (tax_ppm between 0 and 1000000),
  add column tax_name text;

alter table billaged.replica
  -- All that the replica acknowledged before this instant (of the database's clock) is folded.
  add column folded_until timestamptz,
  -- Its journal is lost or empty for ever; nobody waits for it.
  add column retired_at timestamptz;

create table billaged.credit_grant (
  id text primary key,
  customer_id text not null references billaged.customer (id),
  kind text not null check (kind in ('promotional', 'prepaid')),
  currency text not null,
  amount_nano numeric(40, 0) not null check (amount_nano > 0),
  -- Smaller ones burn first.
  priority integer not null default 100,
  from_at timestamptz not null,
  expires_at timestamptz,
  note text,
  -- The invoice whose negative total became this credit; null for granted ones.
  source_invoice_id text,
  created_at timestamptz not null,
  check (expires_at is null or expires_at > from_at)
);
create index credit_grant_by_customer on billaged.credit_grant (customer_id);

-- What happened to each grant, append-only. Its sum is what is left, never below zero: writers hold the grant's row.
create table billaged.credit_entry (
  entry_id bigint generated always as identity primary key,
  grant_id text not null references billaged.credit_grant (id),
  kind text not null check (kind in ('grant', 'burn', 'return', 'revoke')),
  amount_nano numeric(40, 0) not null check (amount_nano <> 0),
  invoice_id text,
  at timestamptz not null
);
create index credit_entry_by_grant on billaged.credit_entry (grant_id);
-- One burn and one return for an invoice and a grant, however often a close is repeated.
create unique index credit_entry_once on billaged.credit_entry (grant_id, invoice_id, kind) where invoice_id is not null;

create table billaged.invoice (
  -- Made of customer, period and revision: closing again finds it.
  id text primary key,
  customer_id text not null references billaged.customer (id),
  from_at timestamptz not null,
  to_at timestamptz not null,
  -- 0, and one more for each void invoice of the period before it.
  revision integer not null default 0,
  state text not null check (state in ('draft', 'finalised', 'void')),
  -- Gapless over the installation, given when finalised.
  seq bigint unique,
  number text unique,
  currency text not null,
  tax_ppm integer,
  total_nano numeric(40, 0),
  due_minor numeric(40, 0),
  -- Why it is still a draft, as the last close found it.
  blockers jsonb not null default '[]',
  -- What an operator closed over, and why.
  forced jsonb,
  issued_at timestamptz,
  voided_at timestamptz,
  void_reason text,
  created_at timestamptz not null default now(),
  unique (customer_id, from_at, revision),
  check ((state = 'draft') = (number is null))
);
create index invoice_by_period on billaged.invoice (from_at, customer_id);
-- One living invoice a period.
create unique index invoice_living on billaged.invoice (customer_id, from_at) where state <> 'void';

create table billaged.invoice_line (
  id text primary key,
  invoice_id text not null references billaged.invoice (id),
  ordinal integer not null,
  kind text not null,
  price_id text,
  meter text,
  amount_nano numeric(40, 0) not null,
  -- The line this one corrects, and the start of the period that one is in.
  adjusts text,
  adjusts_from timestamptz,
  -- The whole line: segment, group, quantity, the rational's parts, tiers, plan version.
  body jsonb not null,
  unique (invoice_id, ordinal)
);

-- Rendered once. Bytes of renderers may differ between versions of the runtime; these never do.
create table billaged.invoice_document (
  invoice_id text not null references billaged.invoice (id),
  format text not null check (format in ('json', 'csv', 'html', 'pdf')),
  sha256 bytea not null,
  body bytea not null,
  primary key (invoice_id, format)
);

-- What an invoice's usage was made of: a row a VM with one line of text an hour (deflated), and one for all events.
create table billaged.invoice_evidence (
  invoice_id text not null references billaged.invoice (id),
  vm_id text not null,
  hours integer not null,
  body bytea not null,
  primary key (invoice_id, vm_id)
);

create table billaged.receipt (
  customer_id text not null references billaged.customer (id),
  seq integer not null,
  invoice_id text not null unique references billaged.invoice (id),
  prev_hash bytea not null,
  hash bytea not null,
  signature bytea not null,
  -- Canonical JSON (RFC 8785), as it was hashed and signed.
  body text not null,
  primary key (customer_id, seq)
);

-- The next number. Its row lock is held from giving a number to the commit: a number is used or given again.
create table billaged.invoice_counter (
  only_row boolean primary key default true check (only_row),
  next bigint not null
);
insert into billaged.invoice_counter (next) values (1);

create function billaged.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% rows of billaged.% are for ever', tg_op, tg_table_name using errcode = 'integrity_constraint_violation';
end $$;
create trigger append_only before update or delete on billaged.credit_entry
  for each row execute function billaged.refuse_change();
create trigger append_only before update or delete on billaged.invoice_line
  for each row execute function billaged.refuse_change();
create trigger append_only before update or delete on billaged.invoice_document
  for each row execute function billaged.refuse_change();
create trigger append_only before update or delete on billaged.receipt
  for each row execute function billaged.refuse_change();
