-- Answers to calls that came with an Idempotency-Key, for a day. Sealed: some of them show a secret once.
create table billaged.idempotent_call (
  -- Whose key it is: tenant and name of the credential.
  caller text not null,
  key text not null,
  -- SHA-256 of method, path and body: the same key with another call is a mistake.
  digest bytea not null,
  begun_at timestamptz not null,
  -- Null while it runs.
  status integer,
  content_type text,
  body bytea,
  primary key (caller, key)
);
create index idempotent_call_by_time on billaged.idempotent_call (begun_at);
