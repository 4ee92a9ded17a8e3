-- What each series used in each hour: a cache of the fold, exact. A row is true for as long as it is there. Whoever adds
-- a fact that changes what a row rests on holds the row of the series, deletes the hour and queues it, in the transaction
-- of the fact; whoever writes an hour holds the row of the series too, and looks whether anything was added meanwhile.
create table billaged.usage_hour (
  series_id bigint not null references billaged.series (series_id),
  hour integer not null,
  -- Facts outside [reads_from_ns, reads_to_ns] change nothing in it. Readings on both sides of an hour decide how it folds.
  reads_from_ns bigint not null,
  reads_to_ns bigint not null,
  -- Count and XOR of the digests of the parts in between.
  covers_count integer not null,
  covers_xor bytea not null,
  -- Counters are unbounded sums of 64-bit differences.
  cpu_ns numeric(40, 0) not null,
  disk_read numeric(40, 0) not null,
  disk_write numeric(40, 0) not null,
  net_rx numeric(40, 0) not null,
  net_tx numeric(40, 0) not null,
  mem_byte_ns numeric(60, 0) not null,
  mem_peak bigint not null,
  cpu_ns_short numeric(40, 0) not null,
  disk_read_short numeric(40, 0) not null,
  disk_write_short numeric(40, 0) not null,
  net_rx_short numeric(40, 0) not null,
  net_tx_short numeric(40, 0) not null,
  mem_byte_ns_short numeric(60, 0) not null,
  cpu_ns_long numeric(40, 0) not null,
  disk_read_long numeric(40, 0) not null,
  disk_write_long numeric(40, 0) not null,
  net_rx_long numeric(40, 0) not null,
  net_tx_long numeric(40, 0) not null,
  mem_byte_ns_long numeric(60, 0) not null,
  alive_ns bigint not null,
  measured_ns bigint not null,
  gap_short_ns bigint not null,
  gap_long_ns bigint not null,
  -- Time of a life that no pair of readings lies over: falls, heads and tails.
  tail_ns bigint not null,
  disputed_ns bigint not null,
  -- Of the gaps and tails above, where no host was heard.
  host_down_short_ns bigint not null,
  host_down_long_ns bigint not null,
  host_down_tail_ns bigint not null,
  primary key (series_id, hour)
);
-- Facts come at the head of a series: few rows reach that far.
create index usage_hour_by_reads on billaged.usage_hour (series_id, reads_to_ns);

-- Hours that are to be folded (again). Any replica takes them, those of one series at a time.
create table billaged.fold_queue (
  series_id bigint not null references billaged.series (series_id),
  hour integer not null,
  queued_at timestamptz not null default now(),
  not_before timestamptz not null default now(),
  primary key (series_id, hour)
);
create index fold_queue_by_time on billaged.fold_queue (not_before);

-- What is there already is folded like anything else.
insert into billaged.fold_queue (series_id, hour) select distinct series_id, hour from billaged.sample_part;
