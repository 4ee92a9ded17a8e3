-- Which ids the rows of each replica got, in the order of their acceptance: what a live tail goes on by once the journal
-- has let go, and how tails of one replica follow the others.
create table purser_logs.batches (
  replica uuid not null,
  segment uuid not null,
  -- Running total of the replica before the first row. With the segment it orders what a replica accepted, for ever.
  first_row bigint not null,
  rows bigint not null,
  -- Where the journal goes on behind the last record of these rows.
  to_off bigint not null,
  -- Row n of these has id first_id + n, unless it was not stored.
  first_id bigint not null,
  -- Of the entries' own times, microseconds since 1970.
  min_us bigint not null,
  max_us bigint not null,
  primary key (replica, segment, first_row)
);
create index batches_age on purser_logs.batches (max_us);
