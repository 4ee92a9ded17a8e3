-- What was brought to Stripe. All of it can be lost and found again: invoices carry our ids, and usage is posted as totals.
alter table billaged.customer add column stripe_customer_id text;

create table billaged.stripe_push (
  customer_id text not null references billaged.customer (id),
  period_from timestamptz not null,
  -- An invoice's id, or the slug of a meter.
  object text not null,
  kind text not null check (kind in ('invoice', 'meter')),
  stripe_id text,
  -- Of a meter: the total that was posted last, and the time it was posted under.
  value numeric,
  posted_at timestamptz,
  is_final boolean not null default false,
  -- Of an invoice: as Stripe has it (draft, open, paid, uncollectible, void).
  status text,
  problem text,
  attempts integer not null default 0,
  next_at timestamptz not null,
  updated_at timestamptz not null default now(),
  primary key (customer_id, period_from, object)
);
create index stripe_push_due on billaged.stripe_push (next_at) where kind = 'invoice';
create index stripe_push_by_stripe on billaged.stripe_push (stripe_id);
