-- Policies of TimescaleDB that we set: others on the same table are somebody else's, and left alone.
create table purser_logs.timescale_jobs (
  job_id int primary key
);
