-- Usage by the hour and events of the customer before this hour are deleted (RETENTION_USAGE): whoever asks about them is told.
alter table billaged.customer add column usage_expired_hour integer not null default 0;
