-- What customers mean to spend, the thresholds of it that were reached, and whom we tell.

alter table billaged.customer
  -- Percents of the budget at which an alert fires, ascending.
  add column alert_percents integer[] not null default '{50,75,100}',
  -- At 100 % the alert asks the platform to stop the customer's work. We stop nothing ourselves.
  add column stop_requested_at_full boolean not null default false,
  -- Periods that were over by then are not looked at.
  add column budget_set_at timestamptz;
update billaged.customer set budget_set_at = now() where budget_nano is not null;

-- A threshold fires once in a period, whatever happens to the budget afterwards: this row is what makes it once.
create table billaged.alert_fired (
  customer_id text not null references billaged.customer (id),
  period_from timestamptz not null,
  percent integer not null check (percent > 0),
  -- For readers of a stream that come back.
  alert_no bigint generated always as identity unique,
  period_to timestamptz not null,
  budget_nano numeric(40, 0) not null,
  spent_nano numeric(40, 0) not null,
  currency text not null,
  stop_requested boolean not null,
  fired_at timestamptz not null,
  primary key (customer_id, period_from, percent)
);

create table billaged.webhook_endpoint (
  id text primary key,
  -- Null: an operator's, told about every customer.
  customer_id text references billaged.customer (id),
  url text not null,
  description text,
  -- Empty: all types.
  types text[] not null,
  -- The secret is derived from the installation's, the id and this number; it is stored nowhere.
  secret_version integer not null default 1,
  is_enabled boolean not null default true,
  created_at timestamptz not null
);

-- The outbox: written in the transaction of what it tells, sent afterwards.
create table billaged.webhook_delivery (
  id text primary key,
  endpoint_id text not null references billaged.webhook_endpoint (id) on delete cascade,
  -- webhook-id: made of what the message is about, so that telling it again is the same message.
  message_id text not null,
  type text not null,
  customer_id text,
  body text not null,
  state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
  attempts integer not null default 0,
  next_at timestamptz not null,
  give_up_at timestamptz not null,
  last_status integer,
  last_problem text,
  created_at timestamptz not null,
  ended_at timestamptz,
  unique (endpoint_id, message_id)
);
create index webhook_delivery_due on billaged.webhook_delivery (next_at) where state = 'pending';
create index webhook_delivery_by_time on billaged.webhook_delivery (created_at, id);
