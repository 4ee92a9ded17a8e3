-- Evidence of entries in the guide's table (setting CHAIN). Links are in `chain` like those of blocks; here is what each of
-- them covers now: what was deleted or expired since left by a signed rewrite.
create table purser_logs.row_links (
  tenant text not null,
  day date not null,
  seq bigint not null,
  -- Other replicas may have drawn ids in between.
  ids int8multirange not null,
  -- Microseconds since 1970: where to look, whatever index the table has.
  min_us bigint not null,
  max_us bigint not null,
  rows bigint not null,
  sha256 bytea not null,
  primary key (tenant, day, seq)
);
