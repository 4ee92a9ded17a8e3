-- The owner's last batch of log lines: a batch sent again because its answer was lost is stored once.
alter table builderd.builds add column log_batch int not null default 0;
