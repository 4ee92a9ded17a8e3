-- Unmarked requests that two replicas may both have accepted: one of them was gone, or late, before it could tell. Which of
-- them is stored is decided here, in the commit; all others are told by Redis and are not in this table.
create table purser_logs.resends (
  -- Of what makes a request recognisable, as its journal record carries it.
  hash bytea primary key,
  replica uuid not null,
  -- segment:from, of the one that is stored.
  place text not null,
  received_us bigint not null,
  created_at timestamptz not null default now()
);
create index resends_created_at on purser_logs.resends (created_at);
