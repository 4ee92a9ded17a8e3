-- Hours before it are sealed: their samples are gone, or there only as neighbours of later hours, and what usage_hour says
-- of them is final. Samples that come for them are set aside.
alter table billaged.series add column sealed_hour integer not null default 0;
-- Of sealed hours: how many samples there were, and the digest of their set, for invoices that are written again.
alter table billaged.usage_hour add column samples integer;
alter table billaged.usage_hour add column set_digest bytea;
