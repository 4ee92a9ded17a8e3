-- Names under which events are sent, and the customer that each is of. A subject without a row is a customer's own id.
create table billaged.subject (
  key text primary key,
  customer_id text not null references billaged.customer (id),
  display_name text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- A chain would have to be walked; a customer is named directly.
  check (key <> customer_id)
);
create index subject_by_customer on billaged.subject (customer_id);
create index usage_event_by_subject on billaged.usage_event (subject, at_ns);
-- Events are stored in the order in which they come: a block range index costs intake next to nothing.
create index usage_event_by_receipt on billaged.usage_event using brin (received_at);
-- Few, and looked for in every running period.
create index usage_event_unmeterable on billaged.usage_event (customer_id, at_ns) where validation_error is not null;

-- Read-only access to one customer. The token itself is random and kept nowhere; its SHA-256 finds the row.
create table billaged.portal_token (
  id text primary key,
  hash bytea not null unique,
  customer_id text not null,
  -- OpenMeter's tokens are of a subject, which may be one of several of a customer.
  subject text not null,
  allowed_meters text[],
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz
);
create index portal_token_by_customer on billaged.portal_token (customer_id, created_at);
