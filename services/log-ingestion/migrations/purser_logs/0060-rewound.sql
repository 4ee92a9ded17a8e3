-- Rows that a replica stored and whose journal came back from an older snapshot: its running total begins before them
-- again, so they are left out when the total is compared with what is accounted for.
create table purser_logs.rewound (
  replica uuid not null,
  segment uuid not null,
  rows bigint not null,
  noted_at timestamptz not null default now(),
  primary key (replica, segment)
);
