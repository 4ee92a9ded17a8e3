-- When parts and marks came in, for what was known at an earlier time. Null: before this was noted, so known ever since.
alter table billaged.sample_part add column received_at timestamptz;
alter table billaged.sample_part alter column received_at set default now();
alter table billaged.vm_mark add column received_at timestamptz;
alter table billaged.vm_mark alter column received_at set default now();
