-- What a plain part comes to (samples/summary.ts), so that folding it needs no look at its samples. Null: it has none, or is
-- older than this.
alter table billaged.sample_part add column summary bytea;
